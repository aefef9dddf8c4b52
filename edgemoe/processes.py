"""Processes told apart. Their numbers are used again, so that a process is its number and the time it started at."""

from __future__ import annotations

import os
import time

import psutil

_CLOCK = 1.0
"""Seconds by which start times that are read at different moments may differ: the system's clock is corrected."""
_LOADED = time.time()


def this_process() -> tuple[int, float]:
    """The number of this process, and when it started in seconds since 1970; where /proc is hidden, this module."""
    try:
        return os.getpid(), psutil.Process().create_time()
    except (OSError, psutil.Error):
        return os.getpid(), _LOADED


def find_process(pid: int, started: float) -> psutil.Process | None:
    """The process that had `pid` and started then; None where it has ended, also when nobody has waited for it yet."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < _CLOCK
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, psutil.Error, ValueError, TypeError, OverflowError):
        return None


def is_running(pid: int, started: float) -> bool:
    """As `find_process`; where /proc is hidden, any process of that number is taken for it."""
    if find_process(pid, started) is not None:
        return True
    return os.name == "posix" and this_process()[1] == _LOADED and _has_number(pid)


def _has_number(pid: int) -> bool:
    """Whether a process has this number, without /proc."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return pid > 0
