"""Memory and processors as this process may use them, containers included."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import psutil

_NO_LIMIT = 1 << 60
_FILE_PAGES = ("active_file", "inactive_file")
_PROC = Path("/proc")
_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def total_memory() -> int:
    """Physical memory in bytes, or the container's limit when that is smaller."""
    return min([physical_memory(), *(group.limit for group in _groups())])


def available_memory() -> int:
    """Bytes that new work of this process may take without pushing others out."""
    limited = [group.available() for group in _groups() if group.limit < _NO_LIMIT]
    return max(0, min([_system_memory("available", "SC_AVPHYS_PAGES"), *limited]))


def physical_memory() -> int:
    """Bytes in the machine, whatever a container may use of them."""
    return _system_memory("total", "SC_PHYS_PAGES")


def _system_memory(name: str, pages: str) -> int:
    """By psutil, or where /proc is hidden by the C library."""
    try:
        return int(getattr(psutil.virtual_memory(), name))
    except OSError:
        return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def memory_stalls() -> dict[str, float]:
    """Seconds so far during which some process waited for memory (Linux, "pressure stall information"), by file.

    Of the whole system and of this process's control group; empty where the system does not tell.
    """
    paths = [
        _PROC / "pressure/memory",
        *(group.folder / "memory.pressure" for group in _groups() if group.version == 2),
    ]
    seconds = {str(path): _stalled_seconds(path) for path in paths[:2]}
    return {path: stalled for path, stalled in seconds.items() if stalled is not None}


def rss() -> int:
    """Resident set of this process in bytes; where /proc is hidden, the highest so far."""
    try:
        return int(psutil.Process().memory_info().rss)
    except (OSError, psutil.Error):
        return peak_rss()


def held_memory() -> int:
    """Bytes that this process holds and nobody else can have: also what was swapped out, but no pages of files.

    On macOS the footprint, on Windows private bytes; the resident set where the system does not tell.
    """
    try:
        text = (_PROC / "self/status").read_text()
    except OSError:
        from edgemoe import _native

        return _native.held_memory() or rss()
    sizes = re.findall(r"^(?:RssAnon|RssShmem|VmSwap):\s*(\d+) kB", text, re.MULTILINE)
    return sum(map(int, sizes)) * 1024 if sizes else rss()  # gVisor's /proc has none of them


def peak_rss() -> int:
    """Highest resident set of this process so far, in bytes."""
    status = _PROC / "self/status"
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def processors() -> int:
    """Cores that this process may run on, or as many as a container's quota keeps busy when those are fewer."""
    quota = cpu_quota()
    return cores() if quota is None else max(1, min(cores(), ceil(quota)))


def cpu_quota() -> float | None:
    """Cores' worth of time that the process's control groups grant it; None without a limit."""
    granted = [quota for group in _groups("cpu") if (quota := group.cpu_quota) is not None]
    return min(granted, default=None)


def cores() -> int:
    """Cores that this process may run on; hardware threads of one core count once."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        physical = psutil.cpu_count(logical=False)
    except OSError:  # /proc is hidden
        physical = None
    return max(1, min(allowed, physical or allowed))


def return_free_memory() -> None:
    """Gives memory that was freed but kept by the C library back to the system."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)


@dataclass(frozen=True)
class _Group:
    """A control group, version 1 or 2."""

    folder: Path
    version: int

    def words(self, name: str) -> list[str]:
        """Of a file; none where it cannot be read."""
        try:
            return (self.folder / name).read_text().split()
        except OSError:
            return []

    def number(self, one: str, two: str) -> int | None:
        """What the file says that has this name in version 1 or 2; None where there is no number."""
        words = self.words(one if self.version == 1 else two)
        return int(words[0]) if words and words[0].isdigit() else None

    @property
    def limit(self) -> int:
        """Bytes above which processes are killed, or (version 2) made to wait."""
        limits = [self.number("memory.limit_in_bytes", name) for name in ("memory.max", "memory.high")]
        return min([_NO_LIMIT, *(limit for limit in limits if limit is not None)])

    @property
    def cpu_quota(self) -> float | None:
        """Seconds of computing in each second; None without a limit ("max" or -1)."""
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if self.version == 1 else ("cpu.max",)
        words = [word for name in names for word in self.words(name)]
        if len(words) != 2 or not all(word.isdigit() and int(word) for word in words):
            return None
        return int(words[0]) / int(words[1])

    def available(self) -> int:
        """Bytes below the limit, the page cache counted as free, as the system's own figure does."""
        usage = self.number("memory.usage_in_bytes", "memory.current")
        if usage is None:
            return self.limit - rss()
        try:
            lines = (self.folder / "memory.stat").read_text().splitlines()
        except OSError:
            lines = []
        names = {("total_" if self.version == 1 else "") + state for state in _FILE_PAGES}
        cached = sum(int(line.split()[1]) for line in lines if line.split()[0] in names)
        return self.limit - usage + cached


def _groups(controller: str = "memory") -> Iterator[_Group]:
    """The control groups for `controller` that this process is in, with those above them."""
    try:
        lines = (_PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, version = _CONTROL_GROUPS, 2
        elif controller in controllers.split(","):
            base, version = _CONTROL_GROUPS / controller, 1  # where there is "cpu,cpuacct", this leads to it
        else:
            continue
        folder = base / path.lstrip("/")
        for candidate in (folder, *folder.parents):
            if base not in (candidate, *candidate.parents):
                break
            yield _Group(candidate, version)


def _stalled_seconds(path: Path) -> float | None:
    """Of the line "some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS"."""
    try:
        text = path.read_text()
    except OSError:
        return None
    match = re.search(r"^some .*\btotal=(\d+)", text, re.MULTILINE)
    return int(match[1]) / 1e6 if match else None


def processor_name() -> str:
    """As the system calls it, or the kind of its instructions."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
