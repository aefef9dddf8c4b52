"""Unloads models that nobody uses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from edgemoe.server.models import SharedModels

logger = logging.getLogger("edgemoe.server")

_LOOKS = 10.0  # seconds between looks, at most


class Keeper:
    """Looks for models that have been idle for `seconds` (None: never), or for as long as a request said."""

    def __init__(self, shared: SharedModels, seconds: float | None) -> None:
        self._shared = shared
        self._seconds = seconds
        self._asked: dict[str, float | None] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look."""
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Looks no more."""
        if self._task is not None:
            self._task.cancel()

    def keep(self, name: str, seconds: float | None) -> None:
        """Has the model stay for so long after its last use; until it is unloaded, and None is for ever."""
        self._asked[name] = seconds
        self._changed.set()

    def seconds(self, name: str) -> float | None:
        """For how long after its last use a model stays."""
        return self._asked.get(name, self._seconds)

    def expires(self, name: str) -> float | None:
        """When the model will be unloaded if nobody uses it, by `time.time`; None: never."""
        seconds, hosted = self.seconds(name), self._shared.loaded.get(name)
        if seconds is None or hosted is None:
            return None
        idle = 0.0 if self._shared.in_use(name) else time.monotonic() - hosted.last_used
        return time.time() + max(0.0, seconds - idle)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._pause())
            self._changed.clear()
            limits = self._limits()
            for name in await asyncio.to_thread(self._shared.unload_unused, limits):
                logger.info("%s was unloaded: nobody used it for %g s", name, limits[name])
            self._asked = {name: seconds for name, seconds in self._asked.items() if name in self._shared.loaded}

    def _limits(self) -> dict[str, float | None]:
        return {name: self.seconds(name) for name in self._shared.loaded}

    def _pause(self) -> float:
        """Seconds until the next look."""
        limits = [limit for limit in (self._seconds, *self._limits().values()) if limit is not None]
        return min(_LOOKS, max(min(limits, default=_LOOKS) / 4, 0.05))
