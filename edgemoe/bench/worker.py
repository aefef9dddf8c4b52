"""Measures one setting in a process of its own: reads a Job as JSON from stdin, writes its result to stdout."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from statistics import median
from typing import Any

import psutil

from edgemoe.bench.measure import Job, Measurement
from edgemoe.bench.texts import prompt_of
from edgemoe.errors import EdgeMoEError


def main() -> None:
    """Run the job on stdin. Exits with 130 when interrupted."""
    try:
        job = Job(**json.load(sys.stdin))
        try:
            result = measure_here(job)
        except (EdgeMoEError, ValueError) as error:
            result = Measurement(job.label, error=str(error))
        print(json.dumps(dataclasses.asdict(result)))
    except KeyboardInterrupt:
        sys.exit(130)


def measure_here(job: Job) -> Measurement:
    """Load the model in this process and measure it; the peak is that of the whole process."""
    from edgemoe import machine

    started = time.perf_counter()
    llm = open_model(job)
    load_seconds = time.perf_counter() - started
    prompt = prompt_of(llm, job.text, job.prompt_tokens)
    runs = [_Run(llm, prompt, job.tokens) for _ in range(job.repeat)]
    hit_rates = [run.hit_rate for run in runs if run.hit_rate is not None]
    read = [run.bytes_per_token for run in runs if run.bytes_per_token is not None]
    result = Measurement(
        job.label,
        load_seconds=load_seconds,
        first_time_to_first_token=runs[0].time_to_first_token,
        time_to_first_token=median(run.time_to_first_token for run in runs),
        prompt_tps=len(prompt) / median(run.time_to_first_token for run in runs),
        decode_tps=median(run.decode_tps for run in runs),
        hit_rate=median(hit_rates) if hit_rates else None,
        bytes_per_token=median(read) if read else None,
        peak_bytes=machine.peak_rss(),
    )
    llm.close()
    return result


class _Run:
    """One prompt and its greedy continuation, from an empty context."""

    def __init__(self, llm: Any, prompt: list[int], tokens: int) -> None:
        llm.reset()
        started = time.perf_counter()
        stream = llm.generate(prompt, temp=0.0)
        next(stream)
        first = time.perf_counter()
        before = _Reads(llm)
        for _ in range(tokens - 1):
            next(stream)
        ended = time.perf_counter()
        after = _Reads(llm)
        stream.close()
        self.time_to_first_token = first - started
        self.decode_tps = (tokens - 1) / (ended - first)
        self.hit_rate = after.hit_rate_since(before)
        self.bytes_per_token = after.bytes_since(before, tokens - 1)


class _Reads:
    """What was read from disk so far: by edgemoe's own count, or the system's for stock llama.cpp."""

    def __init__(self, llm: Any) -> None:
        self._stats = llm.stats() if hasattr(llm, "stats") else None
        process = psutil.Process()
        self._bytes = process.io_counters().read_bytes if hasattr(process, "io_counters") else None

    def hit_rate_since(self, earlier: _Reads) -> float | None:
        return self._stats.since(earlier._stats).hit_rate if self._stats else None

    def bytes_since(self, earlier: _Reads, tokens: int) -> float | None:
        if self._stats:
            return float(self._stats.bytes_read - earlier._stats.bytes_read) / tokens
        if self._bytes is None or earlier._bytes is None:
            return None
        return (self._bytes - earlier._bytes) / tokens


def open_model(job: Job) -> Any:
    """The job's model, in edgemoe or in plain llama_cpp.Llama."""
    return _open_stock(job) if job.stock else _open(job)


def _open(job: Job) -> Any:
    from edgemoe.llama import Llama

    return Llama(job.model, memory=job.memory, cache=job.cache, quality=job.quality, **_common(job))


def _open_stock(job: Job) -> Any:
    """llama.cpp as it is, mapping the file; without the repacked copy of the weights, which would not be mapped."""
    import llama_cpp.llama_cpp as bindings
    from llama_cpp import Llama

    default_params = bindings.llama_model_default_params

    def without_copies() -> Any:
        params = default_params()
        params.use_extra_bufts = False
        return params

    bindings.llama_model_default_params = without_copies
    return Llama(job.model, **_common(job))


def _common(job: Job) -> dict[str, Any]:
    from edgemoe import machine

    threads = job.threads or machine.processors()
    return {"n_ctx": job.ctx, "n_threads": threads, "n_threads_batch": threads, "verbose": False}


if __name__ == "__main__":
    main()
