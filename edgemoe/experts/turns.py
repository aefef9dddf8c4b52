"""One request at a time, and none after the end: a model has one KV cache, whatever threads use it."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from edgemoe.errors import Cancelled, EdgeMoEError

CLOSED = "the model was closed: open it again to use it"


class Turns:
    """Requests of other threads wait. A thread that begins a request while an unfinished generator of its own is
    open takes over from it: the older generator may not continue, because its context is gone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._owner: int | None = None
        self._current = 0
        self._closed = False
        self._inside: Counter[int] = Counter()  # by thread: how deep it is in blocks of `using`
        self._freeing = threading.RLock()

    @property
    def held_here(self) -> bool:
        return self._owner == threading.get_ident()

    @property
    def active(self) -> bool:
        return self._owner is not None

    def begin(self) -> int:
        """Waits for other threads' requests to end; returns this request's number.

        Raises:
            EdgeMoEError: the model was closed, maybe while it waited.
        """
        me = threading.get_ident()
        with self._changed:
            self._check_open()
            while self._owner not in (None, me):
                self._changed.wait(1.0)
                self._check_open()
            self._owner = me
            self._current += 1
            return self._current

    def is_current(self, turn: int) -> bool:
        return turn == self._current and self._owner is not None and not self._closed

    def resume(self, turn: int) -> None:
        """Continues request `turn`, on whichever thread: a stream may be consumed by several.

        Raises:
            EdgeMoEError: when a later request has taken over, or the model was closed.
        """
        with self._changed:
            self._check_open()
            if not self.is_current(turn):
                raise EdgeMoEError("this generation was ended by a later request on the same model")
            self._owner = threading.get_ident()

    def end(self, turn: int) -> None:
        with self._changed:
            if turn == self._current:
                self._owner = None
                self._changed.notify_all()

    # Closing

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """The model stays in memory inside: `closing` waits for the end.

        Raises:
            EdgeMoEError: the model was closed, or is being closed while this runs.
        """
        me = threading.get_ident()
        with self._changed:
            self._check_open()
            self._inside[me] += 1
        try:
            yield
        except Cancelled as error:
            if self._closed:
                raise EdgeMoEError(CLOSED) from error
            raise
        finally:
            with self._changed:
                self._inside[me] -= 1
                if not self._inside[me]:
                    del self._inside[me]
                    self._changed.notify_all()

    @contextlib.contextmanager
    def closing(self, stop: Callable[[], None]) -> Iterator[None]:
        """Ends the model: calls `stop` if other threads use it, and goes on inside when they have left it.

        Raises:
            EdgeMoEError: this thread itself is using the model; nothing has changed.
        """
        if threading.get_ident() in self._inside:
            raise EdgeMoEError("close() was called by what the model is running: end the request first")
        with self._freeing:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
                if self._inside:
                    stop()
                while self._inside:
                    self._changed.wait(1.0)
            yield

    def _check_open(self) -> None:
        if self._closed:
            raise EdgeMoEError(CLOSED)


class Closed:
    """In place of what was freed: llama.cpp would crash."""

    def __getattr__(self, name: str) -> Any:
        raise EdgeMoEError(CLOSED)
