"""One question and its answer: attempts until the first token, and an end whenever somebody wants one."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import httpx

from edgemoe.cloud.attempt import Attempt
from edgemoe.cloud.breaker import Breaker
from edgemoe.cloud.endpoint import Endpoint
from edgemoe.cloud.protocol import Message, Piece
from edgemoe.cloud.retries import pause
from edgemoe.errors import Cancelled, CloudError

logger = logging.getLogger("edgemoe")

_LOOK_EVERY = 0.02
"""Seconds between two looks at the event of the one who asked, which no event loop can wait for."""


@dataclass(frozen=True)
class Request:
    """What is asked, and of whom."""

    endpoint: Endpoint
    messages: Sequence[Message]
    body: bytes


class Exchange:
    """Runs on the network's event loop. `connect` gives a client with connections, `breaker` learns how it went."""

    def __init__(
        self,
        request: Request,
        connect: Callable[[], httpx.AsyncClient],
        breaker: Breaker,
        cancel: threading.Event | None,
        sent: threading.Event | None = None,
    ) -> None:
        self._request = request
        self._connect = connect
        self._breaker = breaker
        self._cancel = cancel
        self._sent = sent
        self._cancelled = False
        self._attempt: Attempt | None = None
        self._entered = self._closed = False
        self._task: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def next(self) -> Piece | None:
        """The next piece of the answer; None after the last one.

        Raises:
            CloudError: when there is none; the exchange is closed then.
            Cancelled: once the event is set.
        """
        self._task = asyncio.current_task()
        if self._cancel is not None and self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(self._cancel))
        try:
            return await self._next()
        except asyncio.CancelledError:
            if not self._cancelled:
                raise
        finally:
            self._task = None
        raise Cancelled("the answer was cancelled")

    async def close(self) -> None:
        """Ends the exchange, and the connection with it if the answer has not come to its end."""
        task = self._task
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait({task})
        if self._watcher is not None and self._watcher is not asyncio.current_task():
            self._watcher.cancel()
        self._leave(self._breaker.gave_up)
        self._closed = True
        if self._attempt is not None:
            await self._attempt.close()

    async def _next(self) -> Piece | None:
        if self._cancelled or (self._cancel is not None and self._cancel.is_set()):
            self._cancelled = True
            raise asyncio.CancelledError
        if self._closed:
            return None
        piece = await (self._first() if self._attempt is None else self._following(self._attempt))
        if piece is None or piece.usage is not None:
            self._leave(self._breaker.succeeded)
        return piece

    async def _first(self) -> Piece | None:
        endpoint = self._request.endpoint
        key = await asyncio.to_thread(endpoint.key)  # a keyring may ask its user
        if reason := self._breaker.enter():
            raise CloudError(f"the endpoint {endpoint.name!r} cannot be asked: {reason}")
        self._entered = True
        number = 0
        while True:
            self._attempt = attempt = Attempt(endpoint, key, self._request.messages, self._sent)
            try:
                await attempt.open(self._connect(), self._request.body)
                return await attempt.next()
            except CloudError as error:
                await attempt.close()
                wait = pause(number, attempt.retry_after) if error.temporary else None
                if wait is None or number == endpoint.retries:
                    self._failed(attempt, error)
                    raise
                logger.info("%s; asking again in %.1f s", error, wait)
            await asyncio.sleep(wait)
            number += 1

    async def _following(self, attempt: Attempt) -> Piece | None:
        try:
            return await attempt.next()
        except CloudError as error:
            await attempt.close()
            self._failed(attempt, error)
            raise

    def _failed(self, attempt: Attempt, error: CloudError) -> None:
        """An endpoint that refuses one request may serve the next; one that does not work is left alone."""
        self._closed = True
        if attempt.refused and not error.temporary:
            self._leave(self._breaker.gave_up)
        else:
            self._leave(lambda: self._breaker.failed(attempt.retry_after))

    def _leave(self, how: Callable[[], None]) -> None:
        if self._entered:
            self._entered = False
            how()

    async def _watch(self, cancel: threading.Event) -> None:
        while not cancel.is_set():
            await asyncio.sleep(_LOOK_EVERY)
        self._cancelled = True
        with suppress(Exception):
            await self.close()
