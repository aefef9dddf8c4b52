"""What cloud answers have cost, by day and endpoint, in a file."""

from __future__ import annotations

import datetime
import json
import math
import zlib
from pathlib import Path
from typing import Any

from edgemoe.errors import EdgeMoEError, ReadError
from edgemoe.files import locked, replace_file

_FORMAT = 1

_Days = dict[str, dict[str, float]]


class Ledger:
    """Counts money by day. Processes may share its file, and a crash loses nothing that was counted.

    Days are this machine's, and money has the unit of the endpoints' prices. A damaged file is never replaced: whoever
    wants to begin anew moves it away.

    Raises:
        ReadError: from every method, when the file cannot be read or is damaged.
        WriteError: when it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def add(self, endpoint: str, cost: float) -> None:
        """Counts `cost` for today."""
        if not math.isfinite(cost) or cost < 0:
            raise EdgeMoEError(f"a cost must be a number from 0, not {cost!r}")
        today = datetime.date.today().isoformat()
        with locked(self.path):
            days = self._read()
            costs = days.setdefault(today, {})
            costs[endpoint] = costs.get(endpoint, 0.0) + cost
            replace_file(self.path, _packed(days))

    def spent(self, day: datetime.date | None = None) -> float:
        """Money for one day; today's when it is None."""
        return math.fsum(self.by_endpoint(day).values())

    def by_endpoint(self, day: datetime.date | None = None) -> dict[str, float]:
        """Money for one day by endpoint."""
        return dict(self._read().get((day or datetime.date.today()).isoformat(), {}))

    def left(self, budget_per_day: float) -> float:
        """What today's budget still has; 0 when it is spent."""
        return max(0.0, budget_per_day - self.spent())

    def _read(self) -> _Days:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ReadError(f"the ledger {self.path} cannot be read: {error.strerror}") from error
        try:
            found = json.loads(data)
            days: _Days = found["days"]
            whole = found["format"] == _FORMAT and found["checksum"] == _checksum(days) and _is_ledger(days)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise ReadError(f"{self.path} is damaged or no ledger of this version; move it away to count from zero")
        return days


def _is_ledger(days: Any) -> bool:
    costs = [cost for by_endpoint in days.values() for cost in by_endpoint.values()]
    return all(isinstance(cost, (int, float)) and math.isfinite(cost) and cost >= 0 for cost in costs)


def _packed(days: _Days) -> bytes:
    return json.dumps({"format": _FORMAT, "days": days, "checksum": _checksum(days)}, indent=1).encode()


def _checksum(days: object) -> str:
    """Of the days' canonical JSON: editing the file by hand counts as damage."""
    return f"{zlib.crc32(json.dumps(days, sort_keys=True).encode()):08x}"
