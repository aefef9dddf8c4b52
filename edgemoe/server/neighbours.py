"""Other servers on this machine, which share its memory with this one."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Neighbour:
    """Another process that serves models, and the bytes that it has in memory now."""

    process: int
    resident: int


def neighbours() -> list[Neighbour]:
    """Servers of this program that run now, this one left out. What another user hides is not seen."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "memory_info"]):
        if process.pid == os.getpid() or not _serves(process.info["cmdline"] or []):
            continue
        memory = process.info["memory_info"]
        found.append(Neighbour(process.pid, memory.rss if memory is not None else 0))
    return found


def _serves(command: list[str]) -> bool:
    """Whether a command line is `edgemoe serve` or `python -m edgemoe serve`."""
    for name, verb in zip(command, command[1:], strict=False):
        if verb == "serve" and os.path.basename(name) == "edgemoe":
            return True
    return False
