"""Measures one setting in a process of its own: reads a Job as JSON from stdin, writes its result to stdout."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from edgemoe.bench.energy import find_sources
from edgemoe.bench.measure import Job, Measurement
from edgemoe.bench.runs import ParallelRun, Run, SingleRun
from edgemoe.bench.texts import prompt_of, prompts_of
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
    runs = _runs(llm, job)
    medians: dict[str, Any] = {name: _median([getattr(run, name) for run in runs]) for name in _MEDIANS}
    result = Measurement(
        job.label,
        load_seconds=load_seconds,
        budget_bytes=None if job.stock or job.cache else llm.stats().budget_bytes,
        prompt_tps=job.prompt_tokens * (job.sequences or 1) / medians["time_to_first_token"],
        first_time_to_first_token=runs[0].time_to_first_token,
        peak_bytes=machine.peak_rss(),
        resident_bits=llm.resident_bits() if job.residency and not job.stock else None,
        **medians,
    )
    llm.close()
    return result


_MEDIANS = [field.name for field in dataclasses.fields(Run)]


def _runs(llm: Any, job: Job) -> list[Run]:
    sources = find_sources(Path(job.energy)) if job.energy else []
    if job.sequences is None:
        prompt = prompt_of(llm, job.text, job.prompt_tokens)
        return [SingleRun(llm, prompt, job.tokens, sources) for _ in range(job.repeat)]
    prompts = prompts_of(llm, job.text, job.prompt_tokens, job.sequences)
    return [ParallelRun(llm, prompts, job.tokens, sources) for _ in range(job.repeat)]


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def open_model(job: Job) -> Any:
    """The job's model, in edgemoe or in plain llama_cpp.Llama."""
    return _open_stock(job) if job.stock else _open(job)


def _open(job: Job) -> Any:
    from edgemoe.llama import Llama

    settings: dict[str, Any] = {
        "memory": job.memory,
        "cache": job.cache,
        "quality": job.quality,
        "n_seq_max": job.sequences or 1,
    }
    if job.half_life is not None:
        settings["half_life"] = job.half_life
    return Llama(job.model, **settings, **_common(job))


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
    n_ctx = job.ctx * (job.sequences or 1)
    return {"n_ctx": n_ctx, "n_threads": threads, "n_threads_batch": threads, "verbose": False}


if __name__ == "__main__":
    main()
