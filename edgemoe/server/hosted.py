"""A model that several requests use at once, and that an assistant takes for a `Llama` of its own."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgemoe.packs.summary import expert_bits
from edgemoe.server.engine import Engine
from edgemoe.server.generation import Generation, Job
from edgemoe.server.requests import DEFAULTS, Piece, Sampling
from edgemoe.server.sampling import Sampler, fresh_seed
from edgemoe.server.snapshot import ModelState

if TYPE_CHECKING:
    from edgemoe.llama import Llama


class Hosted:
    """A loaded model and the engine that computes its requests; `close` ends both."""

    def __init__(self, llm: Llama, parallel: int) -> None:
        """`llm` was opened with n_seq_max=`parallel`."""
        self.llm = llm
        self.engine = Engine(llm, parallel)
        self._full_bits = expert_bits(llm.model_path)

    def stats(self) -> Any:
        """The model's counters."""
        return self.llm.stats()

    def set_memory(self, memory: int | str | None) -> None:
        """Changes the budget, as `Llama.set_memory`."""
        self.llm.set_memory(memory)

    def describe(self, state: ModelState) -> ModelState:
        """`state` with what only a loaded model has.

        Raises:
            EdgeMoEError: it is closed.
        """
        return replace(
            state,
            ctx=self.engine.ctx,
            active=self.engine.active,
            waiting=self.engine.waiting,
            idle_seconds=None if self.engine.active else time.monotonic() - self.engine.last_used,
            stats=self.llm.stats(),
            full_bits=self._full_bits,
            resident_bits=self.llm.resident_bits(),
        )

    @property
    def last_used(self) -> float:
        """When its newest answer ended, by `time.monotonic`."""
        return self.engine.last_used

    @property
    def works(self) -> bool:
        """Whether it can compute: its engine may have failed in a way that nobody foresaw."""
        return self.engine.works

    def end(self) -> None:
        """Ends what is computed with an error."""
        self.engine.close()

    def close(self) -> None:
        """Unloads the model; what it computes ends with an error."""
        self.end()
        self.llm.close()


class SharedLlama:
    """What an assistant uses of a `Llama`: completions of tokens, each in a sequence of its own beside others'.

    One of these serves one answer at a time. Everything that does not compute is the model's.
    """

    def __init__(self, hosted: Hosted) -> None:
        self._hosted = hosted
        self._generation: Generation | None = None
        self.n_tokens = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hosted.llm, name)

    def n_ctx(self) -> int:
        """Tokens of one sequence."""
        return self._hosted.engine.ctx

    def cancel(self) -> None:
        """Stops the running completion from any thread: it raises `Cancelled`."""
        if self._generation is not None:
            self._hosted.engine.cancel(self._generation)

    def create_completion(
        self,
        prompt: Sequence[int],
        *,
        stream: bool = False,
        max_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        stopping_criteria: Sequence[Any] | None = None,
        seed: int | None = None,
        **sampling: Any,
    ) -> Any:
        """As llama_cpp.Llama.create_completion, for these arguments."""
        room = self.n_ctx() - len(prompt)
        llm = self._hosted.llm
        settings = Sampling(**(dict(DEFAULTS) | sampling))
        job = Job(
            prompt=list(prompt),
            sampler=Sampler(llm._model, llm.n_vocab(), settings, fresh_seed() if seed is None else seed),
            max_tokens=min(max_tokens or room, room),
            stop=[stop] if isinstance(stop, str) else list(stop or ()),
            criteria=list(stopping_criteria or ()),
        )
        self._hosted.engine.check(job)
        chunks = self._chunks(job)
        if stream:
            return chunks
        found = [chunk["choices"][0] for chunk in chunks]
        text = "".join(choice["text"] for choice in found)
        return {"choices": [{"text": text, "finish_reason": found[-1]["finish_reason"]}]}

    def _chunks(self, job: Job) -> Iterator[Mapping[str, Any]]:
        pieces: queue.SimpleQueue[Piece | BaseException] = queue.SimpleQueue()
        generation = self._generation = self._hosted.engine.submit(job, pieces.put)
        try:
            while True:
                piece = pieces.get()
                if isinstance(piece, BaseException):
                    raise piece
                unevaluated = 1 if piece.finish_reason == "length" else 0
                self.n_tokens = len(job.prompt) + job.progress.completion_tokens - unevaluated
                yield {"choices": [{"text": piece.text, "finish_reason": piece.finish_reason}]}
                if piece.finish_reason is not None:
                    return
        finally:
            self._generation = None
            self._hosted.engine.cancel(generation)
