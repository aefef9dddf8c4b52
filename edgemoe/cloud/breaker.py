"""Leaves an endpoint alone that has failed again and again (a circuit breaker, Nygard 2007)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_FAILURES = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 600.0


class Breaker:
    """Closed: requests pass. Open, after three failures in a row: none does for 30 s. Then half open: one passes as a
    probe, which closes it, or opens it for twice as long, up to ten minutes. Any thread may use it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._pause = _FIRST_PAUSE
        self._open_until: float | None = None
        self._probing = False

    def refuses(self) -> str | None:
        """Why a request does not pass now; None when one does."""
        with self._lock:
            return self._reason()

    def enter(self) -> str | None:
        """As `refuses`. Where it is None a request is under way: one of the three methods below must follow."""
        with self._lock:
            reason = self._reason()
            self._probing = self._probing or (reason is None and self._open_until is not None)
            return reason

    def succeeded(self) -> None:
        """The request was answered."""
        with self._lock:
            self._failures, self._pause = 0, _FIRST_PAUSE
            self._open_until, self._probing = None, False

    def failed(self, retry_after: float | None = None) -> None:
        """The endpoint failed; it may have said when to come back."""
        with self._lock:
            self._failures += 1
            if self._probing:
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            asked = min(retry_after or 0.0, _LONGEST_PAUSE)
            if self._probing or self._failures >= _FAILURES:
                asked = max(asked, self._pause)
            if asked:
                self._open_until = self._clock() + asked
            self._probing = False

    def gave_up(self) -> None:
        """The request says nothing about the endpoint: it was cancelled, or was itself wrong."""
        with self._lock:
            self._probing = False

    def _reason(self) -> str | None:
        if self._open_until is None:
            return None
        left = self._open_until - self._clock()
        if left > 0:
            return f"it has failed and is left alone for another {left:.0f} s"
        return "it has failed, and another request tries just now whether it works again" if self._probing else None
