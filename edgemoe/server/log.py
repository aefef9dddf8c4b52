"""What answered requests were like: for statistics, in memory only, and never their text."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

RECENT = 1024
ENDED = ("stop", "length", "tool_calls")
"""Finish reasons of answers that are what was asked for."""
OUTCOMES = (*ENDED, "refused", "cancelled", "wrong", "error", "busy")
_TIMES = ("first_token", "per_token", "total")


@dataclass(frozen=True)
class Record:
    """One request that has ended. Times are in seconds.

    `outcome` is its finish reason, or "cancelled", "wrong" (a 400), "error", "busy" (a 429) or "refused". `route` is
    "local" or "cloud" where the router chose; `escalated` says that the cloud replaced a local answer. `schema_valid`
    is None where no schema was asked for.
    """

    api: str
    model: str
    outcome: str
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_token: float | None = None
    per_token: float | None = None
    total: float = 0.0
    route: str | None = None
    escalated: bool = False
    cost: float = 0.0
    schema_valid: bool | None = None


class Log:
    """The newest records, and sums over all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recent: deque[Record] = deque(maxlen=RECENT)
        self._totals: Counter[str] = Counter()
        self._cost = 0.0
        self._times = {name: (0.0, 0) for name in _TIMES}
        self._listeners: list[Callable[[Record], None]] = []

    def add(self, record: Record) -> None:
        """Counts a request that has ended."""
        with self._lock:
            self._recent.append(record)
            self._cost += record.cost
            self._totals.update({"requests": 1, f"outcome.{record.outcome}": 1, f"api.{record.api}": 1})
            self._totals.update({"tokens.prompt": record.prompt_tokens, "tokens.completion": record.completion_tokens})
            self._totals["tokens.cached"] += record.cached_tokens
            if record.route is not None:
                self._totals.update({f"route.{record.route}": 1, "escalations": int(record.escalated)})
            if record.schema_valid is not None:
                self._totals.update({"schema.answers": 1, "schema.valid": int(record.schema_valid)})
            if record.outcome in ENDED and record.schema_valid is not False:
                self._totals["accepted"] += 1
            self._add_times(record)
        for listener in self._listeners:
            listener(record)

    def _add_times(self, record: Record) -> None:
        for name, (total, count) in self._times.items():
            value = getattr(record, name)
            if value:  # what was refused took no time
                self._times[name] = (total + value, count + 1)

    def on_record(self, listener: Callable[[Record], None]) -> None:
        """Has `listener` told each record from now on, on the thread where it ends: it must be quick."""
        self._listeners.append(listener)

    @property
    def recent(self) -> list[Record]:
        """At most RECENT of them, the oldest first."""
        with self._lock:
            return list(self._recent)

    @property
    def totals(self) -> dict[str, int]:
        """Counts since the server began: "requests", "outcome.NAME", "api.NAME", "tokens.prompt" (cached ones
        included), "tokens.cached", "tokens.completion", "route.NAME", "escalations", "schema.answers", "schema.valid",
        "accepted" (answers that ended and have the form that was asked for).
        """
        with self._lock:
            return dict(self._totals)

    @property
    def times(self) -> dict[str, tuple[float, int]]:
        """Seconds and number of all that have been "first_token", "per_token" and "total"."""
        with self._lock:
            return dict(self._times)

    @property
    def cost(self) -> float:
        """Money, over all requests."""
        with self._lock:
            return self._cost
