"""Decodes given tokens one by one in this process: a request as JSON on stdin, its figures as JSON on stdout.

The request has `job` (the fields of edgemoe.bench.measure.Job), `ids` (tokens), and `warm`: the first so many fill the
cache and are not counted. Figures are per counted token, in seconds and bytes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import psutil

from edgemoe import machine
from edgemoe.bench.measure import Job
from edgemoe.bench.worker import open_model
from edgemoe.errors import EdgeMoEError


def measure(job: Job, ids: Sequence[int], warm: int) -> dict[str, float]:
    """`decode` is in tokens per second; stock llama.cpp has no hits, and its bytes are those of the whole process."""
    model = open_model(job)
    eval_each(model, ids[:warm])
    ours = not job.stock
    before = model.stats() if ours else psutil.Process().io_counters().read_bytes
    seconds = eval_each(model, ids[warm:])
    tokens = len(ids) - warm
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


def eval_each(model: Any, ids: Sequence[int]) -> float:
    """Seconds that the tokens took, one at a time."""
    began = time.perf_counter()
    for token in ids:
        model.eval([token])
    return time.perf_counter() - began


if __name__ == "__main__":
    request = json.load(sys.stdin)
    try:
        print(json.dumps(measure(Job(**request["job"]), request["ids"], request["warm"])))
    except (EdgeMoEError, ValueError) as error:
        sys.exit(str(error))
