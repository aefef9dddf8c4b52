"""An answer on its way to a client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from edgemoe.routing.policy import Decision
from edgemoe.server.requests import Piece


@dataclass
class Progress:
    """What is known of an answer so far. Times are of `time.monotonic`."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt, those that an earlier request had evaluated."""
    completion_tokens: int = 0
    asked: float = 0.0
    loaded: float | None = None
    """When the model was there."""
    first_token: float | None = None
    ended: float | None = None


class Reply(AsyncIterator[Piece]):
    """Yields the pieces of an answer; `aclose` (or the end of `async with`) stops what is still under way.

    Attributes:
        model: the name of the model that was asked; `answered_by` has those that did, where the router chose.
        progress: tokens and times.
        decision: who was to answer and why, where the router chose.
        said: the text so far.
        notes: sentences for people about what did not go as decided.
        cost: money.
        escalated: the cloud replaced a local answer.
        schema_valid: whether the answer is the JSON that was asked for; None where none was.
    """

    def __init__(self, model: str, progress: Progress, cancel: Callable[[], None]) -> None:
        self.model = model
        self.progress = progress
        self.answered_by: list[str] = []
        self.decision: Decision | None = None
        self.notes: list[str] = []
        self.cost = 0.0
        self.escalated = False
        self.schema_valid: bool | None = None
        self.said = ""
        self.finish_reason: str | None = None
        self.error: BaseException | None = None
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece | BaseException] = asyncio.Queue()
        self._done = False
        self._on_end: list[Callable[[Reply], None]] = []

    def deliver(self, piece: Piece | BaseException) -> None:
        """Takes a piece from whichever thread."""
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody reads any more
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

    def on_end(self, call: Callable[[Reply], None]) -> None:
        """Has `call` called once, when the answer has ended in whatever way."""
        self._on_end.append(call)

    async def __anext__(self) -> Piece:
        if self._done:
            raise StopAsyncIteration
        piece = await self._pieces.get()
        if isinstance(piece, BaseException):
            self.error = piece
            self._end()
            raise piece
        self.said += piece.text
        if piece.finish_reason is not None:
            self.finish_reason = piece.finish_reason
            self._end()
        return piece

    async def aclose(self) -> None:
        """Stops the answer if it has not ended."""
        if not self._done:
            self._cancel()
            self._end()

    async def __aenter__(self) -> Reply:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _end(self) -> None:
        self._done = True
        self.progress.ended = time.monotonic()
        for call in self._on_end:
            call(self)
        self._on_end.clear()
