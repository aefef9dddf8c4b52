"""An answer as it comes, from threads and from asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

from edgemoe.cloud import Usage
from edgemoe.conversation import Message
from edgemoe.routing.policy import Decision, Facts


@dataclass(frozen=True)
class Asked:
    """What an answer is to, for feedback."""

    messages: Sequence[Message]
    facts: Facts


class Answer(Iterator[str]):
    """Yields the text piece by piece, and knows how it came about. Close it when you stop early (`with` does).

    Attributes:
        decision: who was to answer, and why; known before the first piece.
        answered_by: names of the models that did; several where one failed or was unsure.
        notes: sentences for people about what did not go as decided.
        text: what has come so far.
        confidence: the probability that a local answer is good, where it was looked at.
        usage: tokens of the model that answered last.
        cost: money, over all endpoints that were asked.
        finish_reason: "stop", "length" or another; None while it is not complete.
    """

    def __init__(self, decision: Decision, cancelled: threading.Event, on_note: Callable[[str], None]) -> None:
        self.decision = decision
        self.answered_by: list[str] = []
        self.notes: list[str] = []
        self.text = ""
        self.confidence: float | None = None
        self.usage: Usage | None = None
        self.cost = 0.0
        self.finish_reason: str | None = None
        self.asked: Asked | None = None
        self.rated = False
        self._cancelled = cancelled
        self._on_note = on_note
        self._work: Generator[str, None, None] | None = None
        self._stop_local: Callable[[], None] | None = None

    def start(self, work: Generator[str, None, None]) -> Answer:
        """Takes the generator whose pieces it yields."""
        self._work = work
        return self

    def __next__(self) -> str:
        if self._work is None:
            raise StopIteration
        piece = next(self._work)
        self.text += piece
        return piece

    def note(self, message: str) -> None:
        """Keeps a sentence for the user, and tells it at once where somebody listens."""
        self.notes.append(message)
        self._on_note(message)

    def cancel(self) -> None:
        """Stops the answer from any thread: the one that waits for it gets `Cancelled`."""
        self._cancelled.set()
        if self._stop_local is not None:
            self._stop_local()

    def stops_with(self, stop: Callable[[], None] | None) -> None:
        """What `cancel` has to call while a local model answers."""
        self._stop_local = stop

    def close(self) -> None:
        """Ends it here: connections are closed, the model is free, and what was spent is counted."""
        if self._work is not None:
            self._work.close()

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncAnswer(AsyncIterator[str]):
    """An `Answer` for asyncio, which is in `answer`. A thread of its own waits for it, so that the loop does not.

    Cancelling the task stops the answer.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edgemoe-answer")
        self._ended = False

    async def __anext__(self) -> str:
        if self._ended:
            raise StopAsyncIteration
        try:
            piece = await self._run(lambda: next(self.answer, None))
        except asyncio.CancelledError:
            self.answer.cancel()
            await self.aclose()
            raise
        if piece is None:
            self._end()
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """As `Answer.close`. Once it has ended, nothing happens."""
        if self._ended:
            return
        closed = self._run(self.answer.close)
        self._end()
        await asyncio.shield(closed)

    def _end(self) -> None:
        self._ended = True
        self._thread.shutdown(wait=False)

    async def __aenter__(self) -> AsyncAnswer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _run(self, call: Callable[[], str | None]) -> asyncio.Future[str | None]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)
