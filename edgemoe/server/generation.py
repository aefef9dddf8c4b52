"""One answer while it is computed: logits in, pieces of text out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgemoe.server.reply import Progress
from edgemoe.server.requests import Deliver, Piece, TokenLogprob
from edgemoe.server.sampling import Row, Sampler, likeliest, log_softmax
from edgemoe.server.text import TextStream
from edgemoe.server.vocabulary import Vocabulary

Criterion = Callable[[Any, Any], bool]


@dataclass
class Job:
    """What the engine is asked to compute, all checked. `ends` are the chat template's stop strings, which no answer
    tells of; `criteria` are llama-cpp-python's stopping criteria."""

    prompt: list[int]
    sampler: Sampler
    max_tokens: int
    stop: Sequence[str] = ()
    ends: Sequence[str] = ()
    logprobs: int | None = None
    quality: str | float | None = None
    criteria: Sequence[Criterion] = ()
    progress: Progress = field(default_factory=Progress)


class Generation:
    """Draws the tokens of one answer and delivers what they mean. The engine's thread calls it, one at a time."""

    def __init__(self, job: Job, vocabulary: Vocabulary, deliver: Deliver) -> None:
        self.job = job
        self.cancelled = False
        self.over = False
        self._vocabulary = vocabulary
        self._deliver = deliver
        self._text = TextStream([*job.stop, *job.ends])
        self._tokens = list(job.prompt)
        self._logprobs: deque[tuple[int, TokenLogprob]] = deque()  # with the place of the first character

    def accept(self, row: Row) -> int | None:
        """Takes the logits that follow the newest token; returns the next one, None where the answer ends."""
        job = self.job
        if job.criteria:
            seen = np.asarray(self._tokens, np.intc)
            if any(criterion(seen, row) for criterion in job.criteria):
                self._end("stop")
                return None
        token = job.sampler.draw(row)
        job.progress.completion_tokens += 1
        if job.progress.first_token is None:
            job.progress.first_token = time.monotonic()
        if self._vocabulary.ends(token):
            job.progress.completion_tokens -= 1
            self._end("stop")
            return None
        self._tokens.append(token)
        if job.logprobs is not None:
            self._logprobs.append((self._text.seen, self._logprob(token, row, job.logprobs)))
        text = self._text.feed(self._vocabulary.piece(token))
        if self._text.stop is not None:
            self._end("stop", text)
            return None
        if job.progress.completion_tokens >= job.max_tokens:
            self._end("length", text)
            return None
        if text:
            self._deliver(Piece(text, logprobs=self._shown_logprobs()))
        return token

    def fail(self, error: BaseException) -> None:
        """Ends the answer with an error."""
        self._close()
        self._deliver(error)

    def _end(self, reason: str, text: str = "") -> None:
        """Delivers the last piece."""
        stop = self._text.stop
        text += self._text.end() if stop is None else ""
        logprobs = self._shown_logprobs(last=stop is None)
        self._close()
        told = stop if stop in self.job.stop else None
        self._deliver(Piece(text, logprobs=logprobs, finish_reason=reason, stop=told))

    def _close(self) -> None:
        self.over = True
        self.job.sampler.close()

    def _logprob(self, token: int, row: Row, count: int) -> TokenLogprob:
        logprobs = log_softmax(row)
        piece = self._vocabulary.piece
        top = tuple((piece(other), float(logprobs[other])) for other in likeliest(logprobs, count))
        return TokenLogprob(piece(token), float(logprobs[token]), top)

    def _shown_logprobs(self, last: bool = False) -> tuple[TokenLogprob, ...]:
        """Of the tokens that begin in the text that was given out; with `last`, all of them."""
        found = []
        while self._logprobs and (last or self._logprobs[0][0] < self._text.shown):
            found.append(self._logprobs.popleft()[1])
        return tuple(found)
