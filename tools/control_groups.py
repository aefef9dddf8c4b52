"""Control groups of version 1: limits of a process's memory, page cache included, its cores, their time, its reads."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

MEMORY = Path("/sys/fs/cgroup/memory")
DISK = Path("/sys/fs/cgroup/blkio")
CORES = Path("/sys/fs/cgroup/cpuset")
CPU = Path("/sys/fs/cgroup/cpu")
HERE = Path(__file__).parent
"""Where programs of Python run: it looks for modules there, and the edgemoe that is installed is meant."""

_numbers = itertools.count()


def missing(*controllers: Path) -> str | None:
    """What this machine or user lacks for groups of `controllers`."""
    if os.geteuid() == 0 and all(os.access(controller / "cgroup.procs", os.W_OK) for controller in controllers):
        return None
    return f"this needs root and control groups of version 1 at {' and '.join(map(str, controllers))}"


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """A control group whose processes and page cache together may not exceed `limit` bytes."""
    with _group(MEMORY) as group:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        yield group


@contextlib.contextmanager
def cores_group(cores: str) -> Iterator[Path]:
    """A control group whose processes run on `cores` alone, for example "0" or "0-1"."""
    with _group(CORES) as group:
        (group / "cpuset.cpus").write_text(cores)
        (group / "cpuset.mems").write_text((CORES / "cpuset.mems").read_text())
        yield group


@contextlib.contextmanager
def quota_group(cores: float) -> Iterator[Path]:
    """A control group whose processes together get the time of `cores` cores, for example 0.5."""
    with _group(CPU) as group:
        period = int((group / "cpu.cfs_period_us").read_text())
        (group / "cpu.cfs_quota_us").write_text(str(int(cores * period)))
        yield group


@contextlib.contextmanager
def disk_group(
    bytes_per_second: int, files: Iterable[str | os.PathLike[str]], reads_per_second: int = 0
) -> Iterator[Path]:
    """A control group that reads at most `bytes_per_second` from each disk that holds one of `files`.

    With `reads_per_second` also at most so many times: 250 is what a card has that takes 4 ms for a read.

    The kernel hands the bytes out in slices of about a tenth of a second: the average is right, single reads are either
    fast or wait for the next slice.

    Raises:
        OSError: when a file is on no block device, or the device cannot be limited.
    """
    with _group(DISK) as group:
        for device in sorted({disk_of(file) for file in files}):
            (group / "blkio.throttle.read_bps_device").write_text(f"{device} {bytes_per_second}")
            if reads_per_second:
                (group / "blkio.throttle.read_iops_device").write_text(f"{device} {reads_per_second}")
        yield group


def disk_of(file: str | os.PathLike[str]) -> str:
    """MAJOR:MINOR of the whole disk that holds `file`: a partition cannot be limited."""
    number = os.stat(file).st_dev
    block = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not block.exists():
        raise OSError(f"{os.fspath(file)} is on no block device: its reads cannot be limited")
    disk = block.resolve().parent if (block / "partition").exists() else block
    return (disk / "dev").read_text().strip()


@contextlib.contextmanager
def _group(controller: Path) -> Iterator[Path]:
    group = controller / f"edgemoe-{os.getpid()}-{next(_numbers)}"
    group.mkdir()
    try:
        yield group
    finally:
        for _ in range(20):  # a killed process may not be gone yet
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


def run_in(
    groups: Sequence[Path],
    command: Sequence[str],
    *,
    stdin: str | None = None,
    timeout: float | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs `command` in all of `groups`, in `cwd`. Raises subprocess.TimeoutExpired after `timeout` seconds."""

    def enter() -> None:
        for group in groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    return subprocess.run(
        command, preexec_fn=enter, input=stdin, capture_output=True, text=True, check=False, timeout=timeout, cwd=cwd
    )


def forget_pages(files: Iterable[str | os.PathLike[str]]) -> None:
    """Drops what the page cache has of `files`, except pages that a program maps.

    Cached pages are charged to whoever read them first: a limit of memory would not count them, nor one of the disk.
    """
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
