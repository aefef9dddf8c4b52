"""Models whose budget leaves memory for a part of their experts, in this process or in one of their own."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from edgemoe import Llama, machine

MIB = 1 << 20
OPTIONS = {"n_ctx": 512, "n_batch": 256, "n_threads": 2, "n_threads_batch": 2}


def run(code: str, *arguments: object) -> list[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout.split()


def some_tokens(count: int) -> list[int]:
    return [random.Random(i).randrange(1000) for i in range(count)]


def open_tight(path: Path, share: float, **options: object) -> Llama:
    """The model with a budget that leaves memory for about `share` of its experts while single tokens are computed."""
    budget = machine.rss() + 600 * MIB
    for _ in range(4):  # the allocator keeps some of what a closed model held, more or less of it each time
        llm = Llama(path, memory=budget, **options)
        full = llm._residence._engine.full_cache()
        if llm._residence.share.minimum_cache < llm.stats().cache_bytes < full:
            return llm
        budget -= llm._residence.loans.room.bytes - int(share * full)
        llm.close()
    raise AssertionError(f"no budget near {budget} leaves {share} of {full} bytes to experts")
