"""Speed and memory of a model under several memory budgets, each in a fresh process."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgemoe.errors import EdgeMoEError


@dataclass(frozen=True)
class Job:
    """What one process measures: `repeat` runs of a prompt of `prompt_tokens` and `tokens` tokens after it."""

    label: str
    model: str
    memory: str | None
    prompt_tokens: int
    tokens: int
    repeat: int
    ctx: int
    text: str
    threads: int | None = None
    cache: str | None = None
    quality: str = "exact"
    stock: bool = False
    """Plain llama_cpp.Llama, for comparison."""
    sequences: int | None = None
    """Decoded together, each with a prompt and a context of its own; None: one, as `Llama.generate` does it."""
    half_life: float | None = None
    """Of the uses that decide which experts stay; None: the default."""
    residency: bool = False
    """Tell which experts are in memory in the end."""
    energy: str | None = None
    """Measure energy with what there is in sysfs, which is here."""

    @property
    def title(self) -> str:
        """Its settings, for people."""
        parts = [
            f"cache {self.cache}" if self.cache and not self.stock else self.label,
            self.quality if self.quality != "exact" else None,
        ]
        parts.append(f"{self.sequences} sequence{'s' * (self.sequences > 1)}" if self.sequences else None)
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Measurement:
    """Medians over the runs, in seconds, tokens per second and bytes; or the error that prevented them.

    The prompt's speed includes taking the first token. `hit_rate` and `bytes_per_token` are those of decoding; for
    stock llama.cpp the bytes are what the system read for the process, and it has no hit rate. Of several sequences,
    speeds are those of all together, and the time to first token is that until each has one.
    """

    label: str
    title: str = ""
    quality: str | None = None
    """None: stock llama.cpp."""
    sequences: int | None = None
    budget_bytes: int | None = None
    load_seconds: float | None = None
    first_time_to_first_token: float | None = None
    """Of the first run, when nothing was cached."""
    time_to_first_token: float | None = None
    prompt_tps: float | None = None
    decode_tps: float | None = None
    hit_rate: float | None = None
    bytes_per_token: float | None = None
    peak_bytes: int | None = None
    wait_seconds: float | None = None
    """Of a decoded token: during which computing waited for a read."""
    expert_seconds: float | None = None
    """Computing experts."""
    rest_seconds: float | None = None
    joules_per_token: float | None = None
    """Of decoding, of all that is measured: the machine's own share when idle included."""
    idle_watts: float | None = None
    """What the same meters said before anything ran."""
    resident_bits: dict[str, list[float]] | None = None
    """In the end, by group of experts: bits per weight of each expert in memory."""
    error: str | None = None

    @property
    def sequence_tps(self) -> float | None:
        """Decoded tokens per second of each sequence."""
        return self.decode_tps / self.sequences if self.decode_tps and self.sequences else None

    @property
    def joules_above_idle(self) -> float | None:
        """Of a decoded token, without what the machine would have taken in its time anyway."""
        if self.joules_per_token is None or self.idle_watts is None or not self.decode_tps:
            return None
        return max(0.0, self.joules_per_token - self.idle_watts / self.decode_tps)


Progress = Callable[[Job], None]
"""Told each job before it starts."""


def one_after_another(jobs: Sequence[Job], progress: Progress) -> list[Measurement]:
    """Measures the jobs on this machine."""
    results = []
    for job in jobs:
        progress(job)
        results.append(measure(job))
    return results


def measure_all(
    jobs: Sequence[Job],
    progress: Progress = lambda job: None,
    run: Callable[[Sequence[Job], Progress], list[Measurement]] = one_after_another,
) -> list[Measurement]:
    """Measurements of the jobs, in their order, made by `run`.

    Raises:
        EdgeMoEError: when no job could be measured.
    """
    results = run(jobs, progress)
    if results and all(result.error for result in results):
        raise EdgeMoEError(f"nothing could be measured: {results[0].error}")
    return results


def measure(job: Job) -> Measurement:
    """Measure one job in a fresh process; what goes wrong there is the result's `error`."""
    quality = None if job.stock else job.quality
    return dataclasses.replace(_measured(job), title=job.title, sequences=job.sequences, quality=quality)


def _measured(job: Job) -> Measurement:
    done = subprocess.run(
        [sys.executable, "-m", "edgemoe.bench.worker"],
        input=json.dumps(dataclasses.asdict(job)),
        capture_output=True,
        text=True,
    )
    if done.returncode < 0:
        return Measurement(job.label, error=f"the process was ended by signal {-done.returncode}: out of memory?")
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return Measurement(job.label, error=f"the process failed: {last[0]}")
    return Measurement(**json.loads(lines[-1]))
