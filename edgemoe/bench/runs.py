"""One run of a measurement: prompts, and their greedy continuations."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from edgemoe.bench.energy import Meter, Source


@dataclass
class Run:
    """Figures as in `Measurement`; None where they cannot be known."""

    time_to_first_token: float = 0.0
    decode_tps: float = 0.0
    hit_rate: float | None = None
    bytes_per_token: float | None = None
    wait_seconds: float | None = None
    expert_seconds: float | None = None
    rest_seconds: float | None = None
    joules_per_token: float | None = None

    def _finish(self, started: float, first: float, decoding: _Counters, tokens: int) -> None:
        """After `tokens` tokens: `decoding` was made at `first`, the time of the first token."""
        seconds = time.perf_counter() - first
        if decoding.meter is not None:
            self.joules_per_token = decoding.meter.stop() / tokens
        self.time_to_first_token = first - started
        self.decode_tps = tokens / seconds
        for name, value in decoding.growth(tokens, seconds).items():
            setattr(self, name, value)


class SingleRun(Run):
    """One prompt and its continuation, from an empty context."""

    def __init__(self, llm: Any, prompt: list[int], tokens: int, sources: Sequence[Source] = ()) -> None:
        llm.reset()
        started = time.perf_counter()
        stream = llm.generate(prompt, temp=0.0)
        next(stream)
        first = time.perf_counter()
        decoding = _Counters(llm, sources)
        for _ in range(tokens - 1):
            next(stream)
        self._finish(started, first, decoding, tokens - 1)
        stream.close()


class ParallelRun(Run):
    """A sequence for each prompt; they decode together once all have their first token."""

    def __init__(self, llm: Any, prompts: Sequence[list[int]], tokens: int, sources: Sequence[Source] = ()) -> None:
        from edgemoe.batching import Batch

        with Batch(llm) as batch:
            started = time.perf_counter()
            for prompt in prompts:
                batch.add(prompt)
            chosen: dict[int, int] = {}
            while len(chosen) < len(prompts):
                chosen |= _greedy(batch)
            first = time.perf_counter()
            decoding = _Counters(llm, sources)
            for _ in range(tokens - 1):
                for sequence, token in chosen.items():
                    batch.push(sequence, token)
                chosen = _greedy(batch)
            self._finish(started, first, decoding, (tokens - 1) * len(prompts))


def _greedy(batch: Any) -> dict[int, int]:
    return {sequence: int(logits.argmax()) for sequence, logits in batch.step().items()}


class _Counters:
    """What a model has done when this is made: by edgemoe's own count, or the system's for stock llama.cpp."""

    def __init__(self, llm: Any, sources: Sequence[Source]) -> None:
        self._llm = llm
        self.meter = Meter(list(sources)) if sources else None
        self._stats = llm.stats() if hasattr(llm, "stats") else None
        self._bytes = _bytes_of_process()

    def growth(self, tokens: int, seconds: float) -> dict[str, float]:
        """Of `tokens` tokens since then, which took `seconds`: the fields of Run that can be told."""
        if self._stats is None:
            read = _bytes_of_process()
            if read is None or self._bytes is None:
                return {}
            return {"bytes_per_token": (read - self._bytes) / tokens}
        growth = self._llm.stats().since(self._stats)
        busy = growth.io_wait + growth.compute_time
        return {
            "hit_rate": growth.hit_rate,
            "bytes_per_token": growth.bytes_read / tokens,
            "wait_seconds": growth.io_wait / tokens,
            "expert_seconds": growth.compute_time / tokens,
            "rest_seconds": max(0.0, seconds - busy) / tokens,
        }


def _bytes_of_process() -> int | None:
    process = psutil.Process()
    return int(process.io_counters().read_bytes) if hasattr(process, "io_counters") else None
