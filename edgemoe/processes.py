"""Processes told apart. Their numbers are used again, so that a process is its number and the time it started at."""

from __future__ import annotations

import os

import psutil

_CLOCK = 1.0
"""Seconds by which start times that are read at different moments may differ: the system's clock is corrected."""


def this_process() -> tuple[int, float]:
    """The number of this process, and when it started in seconds since 1970."""
    return os.getpid(), psutil.Process().create_time()


def find_process(pid: int, started: float) -> psutil.Process | None:
    """The process that had `pid` and started then; None where it has ended, also when nobody has waited for it yet."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < _CLOCK
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, ValueError, TypeError, OverflowError):
        return None
