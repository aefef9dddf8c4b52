"""The thread of a loaded model on which all requests are computed together."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgemoe.batching import Batch, Row
from edgemoe.errors import Cancelled, EdgeMoEError
from edgemoe.server.errors import Unavailable
from edgemoe.server.generation import Generation, Job
from edgemoe.server.requests import Deliver
from edgemoe.server.vocabulary import Vocabulary

if TYPE_CHECKING:
    from edgemoe.llama import Llama

logger = logging.getLogger("edgemoe.server")

_SHARED_STEP = 512
"""Tokens of a step while some sequences already answer: a long prompt is computed in such parts between theirs."""


@dataclass
class _Place:
    """A sequence of the batch. One whose answer has ended keeps its tokens for a request that begins with them."""

    sequence: int | None = None
    generation: Generation | None = None
    used: float = 0.0


class Engine:
    """Continuous batching: requests join and leave between any two batches.

    The oldest request that waits gets the place whose tokens it shares most of its beginning with, so that the next
    turn of a chat evaluates only what is new. From its creation to `close` the model serves nobody else.
    """

    def __init__(self, llm: Llama, parallel: int) -> None:
        """`llm` was opened with n_seq_max=`parallel`."""
        self.vocabulary = Vocabulary(llm)
        self._llm = llm
        self._batch = Batch(llm)
        self._places = [_Place() for _ in range(parallel)]
        self._waiting: deque[Generation] = deque()
        self._changed = threading.Condition()  # reentrant
        self._closing = False
        self._stoppable: list[Generation | None] = []  # cancelling one of these stops the running batch
        self.last_used = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="edgemoe-batches", daemon=True)
        self._thread.start()

    @property
    def active(self) -> int:
        """Answers that are computed now."""
        return sum(place.generation is not None for place in self._places)

    @property
    def waiting(self) -> int:
        """Answers that have no place yet."""
        return len(self._waiting)

    @property
    def works(self) -> bool:
        """Whether it takes requests."""
        return not self._closing

    @property
    def ctx(self) -> int:
        """Tokens of one request, prompt and answer together."""
        return self._batch.ctx_tokens

    def check(self, job: Job) -> None:
        """Raises EdgeMoEError for what `submit` could not compute."""
        self._batch.check(job.prompt, job.quality)

    def submit(self, job: Job, deliver: Deliver) -> Generation:
        """Computes the answer to a checked job; `deliver` takes its pieces on the engine's thread.

        Raises:
            Unavailable: the engine is closing.
        """
        generation = Generation(job, self.vocabulary, deliver)
        with self._changed:
            if self._closing:
                job.sampler.close()
                raise Unavailable("the model is being unloaded: try again")
            self._waiting.append(generation)
            self._changed.notify_all()
        return generation

    def cancel(self, generation: Generation) -> None:
        """Ends an answer, from whichever thread: it gets `Cancelled`, if it has not ended by then.

        A batch that computes more of it than its next token is stopped, too: others compute their part again.
        """
        with self._changed:
            generation.cancelled = True
            if generation in self._stoppable:
                self._llm.cancel()
            self._changed.notify_all()

    def close(self) -> None:
        """Ends all answers, and waits for the thread; the model may then be closed or used by others."""
        with self._changed:
            self._closing = True
            for place in self._places:
                if place.generation is not None:
                    place.generation.cancelled = True
            if self._stoppable:
                self._llm.cancel()
            self._changed.notify_all()
        self._thread.join()

    # On the engine's thread

    def _run(self) -> None:
        try:
            while self._next():
                self._compute()
        except BaseException as error:
            logger.error("the engine failed", exc_info=error)
        finally:
            self._closing = True  # whatever happened: nobody may wait for what does not come
            self._fail(Unavailable("the model was unloaded: try again"))
            self._batch.close()

    def _compute(self) -> None:
        try:
            self._step()
        except Cancelled:
            return
        except BaseException as error:
            if not isinstance(error, EdgeMoEError):
                logger.error("a batch failed", exc_info=error)
            self._fail(error)

    def _next(self) -> bool:
        """Waits for something to compute, gives places away; False when the engine is to end."""
        with self._changed:
            while True:
                self._drop_cancelled()
                if self._closing:
                    return False
                if self._waiting or self.active:
                    break
                self._changed.wait()
            begun = self._assign()
        for place, generation in begun:
            self._begin(place, generation)
        return True

    def _drop_cancelled(self) -> None:
        error = Cancelled("the request was cancelled")
        for generation in [g for g in self._waiting if g.cancelled]:
            self._waiting.remove(generation)
            generation.fail(error)
        for place in self._places:
            if place.generation is not None and place.generation.cancelled:
                place.generation.fail(error)
                self._leave(place)

    def _assign(self) -> list[tuple[_Place, Generation]]:
        begun = []
        while self._waiting and (free := [place for place in self._places if place.generation is None]):
            generation = self._waiting.popleft()
            place = max(free, key=lambda place: (self._saved(place, generation.job), -place.used))
            place.generation = generation
            begun.append((place, generation))
        return begun

    def _saved(self, place: _Place, job: Job) -> int:
        """Tokens that need not be evaluated there; 0 where a longer text would be given up for a short beginning."""
        if place.sequence is None:
            return 0
        shared = self._batch.shared(place.sequence, job.prompt, job.quality)
        held = len(self._batch.tokens(place.sequence))
        return shared if 2 * shared >= min(held, len(job.prompt)) else 0

    def _begin(self, place: _Place, generation: Generation) -> None:
        job = generation.job
        try:
            if place.sequence is None:
                place.sequence = self._batch.add(job.prompt, job.quality)
            else:
                job.progress.cached_tokens = self._batch.rewrite(place.sequence, job.prompt, job.quality)
        except BaseException as error:
            generation.fail(error)
            place.generation = None

    def _step(self) -> None:
        answered = {p.sequence: p for p in self._places if p.generation is not None and p.sequence is not None}
        if not answered:
            return
        long = [place for sequence, place in answered.items() if self._batch.pending(sequence) > 1]
        alone = len(answered) == 1
        self._set_stoppable(list(answered.values()) if alone else long)
        try:
            rows = self._batch.step(None if alone or len(long) == len(answered) else _SHARED_STEP)
        finally:
            self._set_stoppable([])
        for sequence, row in rows.items():
            self._advance(answered[sequence], sequence, row)

    def _set_stoppable(self, places: list[_Place]) -> None:
        with self._changed:
            self._stoppable = [place.generation for place in places]
            if any(generation is not None and generation.cancelled for generation in self._stoppable):
                self._llm.cancel()

    def _advance(self, place: _Place, sequence: int, row: Row) -> None:
        """Draws the next token of a place's answer."""
        generation = place.generation
        assert generation is not None
        try:
            token = generation.accept(row)
            if token is not None:
                self._batch.push(sequence, token)
                return
        except BaseException as error:
            generation.fail(error)
        self._leave(place)

    def _leave(self, place: _Place) -> None:
        """The answer of a place has ended; what was evaluated stays."""
        with self._changed:
            place.generation = None
            place.used = self.last_used = time.monotonic()
            if place.sequence is not None:
                self._batch.drop_waiting(place.sequence)

    def _fail(self, error: BaseException) -> None:
        for place in self._places:
            if place.generation is not None:
                place.generation.fail(error)
                self._leave(place)
        with self._changed:
            waiting = list(self._waiting) if self._closing else []
            for generation in waiting:
                self._waiting.remove(generation)
                generation.fail(error)
