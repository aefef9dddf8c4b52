"""The thread on which all connections live, whoever waits for what they bring.

One event loop serves threads and other event loops alike: connections can be kept for the next request, and a read
that is under way can be cancelled from anywhere.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


_NAME = "edgemoe-cloud"
_TALKATIVE = ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))


def _not_ours(record: logging.LogRecord) -> bool:
    """Libraries log what servers send, which may be the key. Others who use them keep their logs."""
    return record.threadName != _NAME


class Network:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        for name in _TALKATIVE:
            logging.getLogger(name).addFilter(_not_ours)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=_NAME, daemon=True)
        self._thread.start()
        atexit.register(self._stop)

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Runs `coroutine`; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(1.0)


_lock = threading.Lock()
_networks: dict[int, Network] = {}


def network() -> Network:
    """That of this process; a fork has one of its own."""
    with _lock:
        if os.getpid() not in _networks:
            _networks.clear()
            _networks[os.getpid()] = Network()
        return _networks[os.getpid()]


if hasattr(os, "register_at_fork"):

    def _unlock() -> None:
        global _lock
        _lock = threading.Lock()

    os.register_at_fork(after_in_child=_unlock)
