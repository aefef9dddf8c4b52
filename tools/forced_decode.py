"""Decodes given tokens one by one in this process: a request as JSON on stdin, its figures as JSON on stdout.

The request has `job` (the fields of edgemoe.bench.measure.Job), `ids` (tokens), and `warm`: the first so many fill the
cache and are not counted. With `sequences` in the job, each decodes an equal piece of the tokens, all together.
Figures are per counted token, in seconds and bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psutil

from edgemoe import machine
from edgemoe.bench.measure import Job
from edgemoe.bench.worker import open_model
from edgemoe.errors import EdgeMoEError


def measure(job: Job, ids: Sequence[int], warm: int) -> dict[str, float]:
    """`decode` is in tokens per second; stock llama.cpp has no hits, and its bytes are those of the whole process."""
    model = open_model(job)
    with contextlib.closing(steps(model, ids, job.sequences)) as each:
        begun = warm // (job.sequences or 1)
        forward(each, begun)
        ours = not job.stock
        before = model.stats() if ours else psutil.Process().io_counters().read_bytes
        began = time.perf_counter()
        tokens = forward(each)
        seconds = time.perf_counter() - began
    figures = {"decode": tokens / seconds, "peak": float(machine.peak_rss())}
    if ours:
        done = model.stats().since(before)
        figures |= {
            "hit_rate": done.hit_rate,
            "read": done.bytes_read / tokens,
            "io_wait": done.io_wait / tokens,
            "compute": (seconds - done.io_wait) / tokens,
            "expert_compute": done.compute_time / tokens,
            "cache": float(done.cache_bytes),
        }
    else:
        figures["read"] = (psutil.Process().io_counters().read_bytes - before) / tokens
    model.close()
    return figures


def steps(model: Any, ids: Sequence[int], sequences: int | None) -> Iterator[int]:
    """Decodes one token, or one of each sequence, and yields how many; and so on until there are none."""
    if sequences is None:
        for token in ids:
            model.eval([token])
            yield 1
        return
    from edgemoe.batching import Batch

    length = len(ids) // sequences
    with Batch(model) as batch:
        names = [batch.add([ids[i * length]]) for i in range(sequences)]
        for at in range(1, length + 1):
            batch.step()
            yield sequences
            for i, name in enumerate(names):
                if at < length:
                    batch.push(name, ids[i * length + at])


def forward(each: Iterator[int], count: int | None = None) -> int:
    """Tokens of the next `count` steps, or of all that are left."""
    return sum(itertools.islice(each, count))


if __name__ == "__main__":
    request = json.load(sys.stdin)
    try:
        print(json.dumps(measure(Job(**request["job"]), request["ids"], request["warm"])))
    except (EdgeMoEError, ValueError) as error:
        sys.exit(str(error))
