"""What a ledger's file has in it: money by day and endpoint, and reservations; as bytes and back."""

from __future__ import annotations

import datetime
import json
import math
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

from edgemoe.processes import is_running

_FORMAT = 2  # 1 has no reservations

Days = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Reservation:
    """Money for one request: `least` is what it has cost already, `most` what it can cost. `day` is when it began.

    It belongs to the process `pid` that started at `started`, seconds since 1970.
    """

    id: str
    endpoint: str
    day: str
    least: float
    most: float
    pid: int
    started: float

    @property
    def left_behind(self) -> bool:
        """Whether its process is gone."""
        return not is_running(self.pid, self.started)


@dataclass
class Book:
    """Costs by day (ISO 8601) and endpoint, and reservations by their names."""

    days: Days = field(default_factory=dict)
    reserved: dict[str, Reservation] = field(default_factory=dict)

    @property
    def set_aside(self) -> float:
        """Money of all reservations."""
        return math.fsum(max(one.most, one.least) for one in self.reserved.values())

    def count(self, day: str, endpoint: str, cost: float) -> None:
        """Adds what was spent, if it was anything."""
        if cost > 0:
            costs = self.days.setdefault(day, {})
            costs[endpoint] = costs.get(endpoint, 0.0) + cost

    def close_left_behind(self) -> None:
        """Counts what is known of requests whose process is gone, and frees the rest of their money."""
        for one in [one for one in self.reserved.values() if one.left_behind]:
            del self.reserved[one.id]
            self.count(one.day, one.endpoint, one.least)


def pack(book: Book) -> bytes:
    """A book as a file's content."""
    content = {"days": book.days, "reserved": [asdict(one) for one in book.reserved.values()]}
    return json.dumps({"format": _FORMAT, **content, "checksum": _checksum(content)}, indent=1).encode()


def unpack(data: bytes) -> Book | None:
    """The book of a file's content, without what was left behind; None where it is damaged or none."""
    try:
        found = json.loads(data)
        days, reserved = found["days"], found.get("reserved", [])
        summed = {"days": days, "reserved": reserved} if found["format"] == _FORMAT else days
        if found["format"] not in (1, _FORMAT) or found["checksum"] != _checksum(summed) or not _are_days(days):
            return None
        book = Book(days, {one["id"]: _reservation(one) for one in reserved})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    book.close_left_behind()
    return book


def _are_days(days: Any) -> bool:
    costs = [cost for by_endpoint in days.values() for cost in by_endpoint.values()]
    return all(map(datetime.date.fromisoformat, days)) and all(map(_is_cost, costs))


def _reservation(found: dict[str, Any]) -> Reservation:
    """Raises TypeError or ValueError for what is none."""
    one = Reservation(**found)
    datetime.date.fromisoformat(one.day)
    if not (_is_cost(one.least) and _is_cost(one.most) and isinstance(one.endpoint, str)):
        raise ValueError
    if not (isinstance(one.pid, int) and isinstance(one.started, (int, float))):
        raise ValueError
    return one


def _is_cost(cost: Any) -> bool:
    return isinstance(cost, (int, float)) and math.isfinite(cost) and cost >= 0


def _checksum(content: object) -> str:
    """Of the canonical JSON: editing the file by hand counts as damage."""
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"
