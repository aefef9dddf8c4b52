"""How long and how many at a time reads are: a disk with a high cost for each read wants few large ones, NVMe many."""

from __future__ import annotations

import os
from dataclasses import dataclass

SHORT, LONG = 64 << 10, 1 << 20
"""Bytes of the reads that are timed."""
_SHORT_READS, _LONG_READS = 96, 12
_SMALLEST, _LARGEST = 256 << 10, 1 << 20
"""Below, several threads share a matrix; above, reading it takes so long that computing waits (docs/decisions.md)."""
_SLOW_READ = 1e-3
"""Seconds a read from which on a disk serves no more than a few at a time."""
_FEW = 2
_SHARE = 4
"""Times the bytes that the disk would bring in the time that one more read costs: then that costs a fifth."""


@dataclass(frozen=True)
class Disk:
    """A read of n bytes adds cost + n / bandwidth seconds to what the disk is busy with."""

    cost: float
    bandwidth: float


@dataclass(frozen=True)
class Reads:
    """Up to `together` bytes are one read, and `threads` of them are under way."""

    threads: int
    together: int


def measure_disk(path: str | os.PathLike[str], threads: int) -> Disk:
    """From reads of two lengths at random places: about 20 MB. Raises ReadError when they fail."""
    from edgemoe import _native

    few = min(threads, _FEW)
    short = SHORT / _native.read_speed(os.fspath(path), threads, SHORT, _SHORT_READS)
    long = LONG / _native.read_speed(os.fspath(path), few, LONG, _LONG_READS)
    return disk_of(short, long)


def disk_of(short: float, long: float) -> Disk:
    """From seconds of a read of SHORT and of LONG bytes."""
    bandwidth = (LONG - SHORT) / max(long - short, 1e-9)
    return Disk(max(0.0, short - SHORT / bandwidth), bandwidth)


def choose_reads(disk: Disk, threads: int) -> Reads:
    """The shortest reads whose cost is a small part of their time; few at a time where each costs much."""
    wanted = _SHARE * disk.cost * disk.bandwidth
    together = _SMALLEST
    while together < min(wanted, _LARGEST):
        together *= 2
    return Reads(min(threads, _FEW) if disk.cost >= _SLOW_READ else threads, together)
