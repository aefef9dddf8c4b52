"""Memory and processors as this process may use them, containers included."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

import psutil

_NO_LIMIT = 1 << 60


def total_memory() -> int:
    """Physical memory in bytes, or the container's limit when that is smaller."""
    return min(psutil.virtual_memory().total, _cgroup_limit())


def available_memory() -> int:
    """Bytes that new work of this process may take without pushing others out."""
    available = psutil.virtual_memory().available
    limit = _cgroup_limit()
    if limit < _NO_LIMIT:
        available = min(available, limit - rss())
    return max(available, 0)


def rss() -> int:
    """Resident set of this process in bytes."""
    return psutil.Process().memory_info().rss


def peak_rss() -> int:
    """Highest resident set of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def processors() -> int:
    """Cores that this process may run on; hardware threads of one core count once."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def return_free_memory() -> None:
    """Gives memory that was freed but kept by the C library back to the system."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)


def _cgroup_limit() -> int:
    """The smallest memory limit of the control groups this process is in (versions 1 and 2)."""
    limits = [_NO_LIMIT]
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return _NO_LIMIT
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, name = Path("/sys/fs/cgroup"), "memory.max"
        elif "memory" in controllers.split(","):
            base, name = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        else:
            continue
        folder = base / path.lstrip("/")
        for candidate in (folder, *folder.parents):
            if base not in (candidate, *candidate.parents):
                break
            try:
                text = (candidate / name).read_text().strip()
            except OSError:
                continue
            if text.isdigit():
                limits.append(int(text))
    return min(min(limits), _NO_LIMIT)


def processor_name() -> str:
    """As the system calls it, or the kind of its instructions."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
