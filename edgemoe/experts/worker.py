"""One thread on which a model computes: OpenMP keeps a team of threads for each thread that starts parallel work."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from edgemoe.errors import EdgeMoEError
from edgemoe.experts.turns import CLOSED

T = TypeVar("T")


class Worker:
    """Runs one function after another on its own thread."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], T], stop: Callable[[], None]) -> T:
        """What `work` returns. An interrupt of the caller calls `stop`, waits for `work` to end, and is raised.

        Raises:
            EdgeMoEError: when the thread has been closed.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise EdgeMoEError(CLOSED)
            self._jobs.put((future, work))
        try:
            return future.result()
        except BaseException:
            stop()
            _settle(future)
            raise

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._jobs.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, work = job
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
            del future, work, job


def _settle(future: Future[Any]) -> None:
    """Waits for `future` to end, however often the user presses Ctrl-C."""
    while not future.done():
        try:
            future.exception(timeout=1.0)
        except BaseException:  # the interrupt is already on its way to the caller
            continue
