"""One request at a time: a model has one KV cache, whatever the number of threads that use it."""

from __future__ import annotations

import threading

from edgemoe.errors import EdgeMoEError


class Turns:
    """Requests of other threads wait. A thread that begins a request while an unfinished generator of its own is
    open takes over from it: the older generator may not continue, because its context is gone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._owner: int | None = None
        self._current = 0

    @property
    def held_here(self) -> bool:
        return self._owner == threading.get_ident()

    @property
    def active(self) -> bool:
        return self._owner is not None

    def begin(self) -> int:
        """Waits for other threads' requests to end; returns this request's number."""
        me = threading.get_ident()
        with self._changed:
            while self._owner not in (None, me):
                self._changed.wait(1.0)
            self._owner = me
            self._current += 1
            return self._current

    def is_current(self, turn: int) -> bool:
        return turn == self._current and self._owner is not None

    def resume(self, turn: int) -> None:
        """Continues request `turn`, on whichever thread: a stream may be consumed by several.

        Raises:
            EdgeMoEError: when a later request has taken over.
        """
        with self._changed:
            if not self.is_current(turn):
                raise EdgeMoEError("this generation was ended by a later request on the same model")
            self._owner = threading.get_ident()

    def end(self, turn: int) -> None:
        with self._changed:
            if turn == self._current:
                self._owner = None
                self._changed.notify_all()
