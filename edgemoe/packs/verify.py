"""Whether a pack is still what was written: every byte of it is compared with its checksum."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import xxhash

from edgemoe import _native, machine
from edgemoe.errors import ModelError
from edgemoe.experts.quality import LEVELS
from edgemoe.packs.layout import CHECKSUMS, Group, is_extents
from edgemoe.packs.planes import Bytes, gains
from edgemoe.packs.reader import Pack

Progress = Callable[[int, int], None]
"""Told how many bytes are done, and of how many."""

_CHUNK = 8 << 20
_READERS_PER_CORE = 2


@dataclass(frozen=True)
class Verification:
    """`damages` says in words what is not as it was written; none means that all of `extents` and all else are."""

    bytes: int
    extents: int
    damages: list[str]


def verify(
    path: str | os.PathLike[str], *, threads: int | None = None, progress: Progress | None = None
) -> Verification:
    """Compares all of a pack with its checksums.

    Raises:
        ModelError: when the file is no pack, or so damaged that it cannot be opened.
        ReadError: when it cannot be read.
    """
    with Pack(path) as pack:
        damages = small_damages(pack)
        if pack.bytes != pack.expected_bytes:
            damages.append(f"the file has {pack.bytes} bytes where {pack.expected_bytes} belong to it")
        counter = _Counter(pack, progress or (lambda done, total: None))
        with ThreadPoolExecutor(threads or _READERS_PER_CORE * machine.processors(), "edgemoe-verify") as workers:
            tasks = [
                workers.submit(_extent_damages, pack, group, expert, counter)
                for group in pack.groups
                for expert in range(group.experts)
            ]
            try:
                damages += [damage for task in tasks for damage in task.result()]
            except BaseException:
                workers.shutdown(cancel_futures=True)
                raise
        return Verification(pack.bytes, counter.extents, damages)


def check_to_run(path: str | os.PathLike[str]) -> None:
    """The header, tables, errors and heads of a pack against their checksums: what all of its experts depend on.

    Planes and dense tensors, which are nearly all of the file, are left to `verify`.

    Raises:
        ModelError: when something is damaged; the message names it.
        ReadError: when the file cannot be read.
    """
    with Pack(path) as pack:
        if damages := small_damages(pack, skipped={tensor.name for tensor in pack.dense}):
            raise ModelError(f"{path}: {damages[0]}: make the pack again, or fetch it again")


def small_damages(pack: Pack, skipped: Collection[str] = ()) -> list[str]:
    """What of the header and of the tensors without checksums of their own is not as it was written."""
    entries = list(pack.entries.values())
    checked = entries[: [entry.name for entry in entries].index(CHECKSUMS)]
    expected = pack.small_checksums()
    damages = []
    if _digest(pack, 0, pack.data_offset) != expected[0]:
        damages.append("the header (metadata or tensor list) is damaged")
    for entry, sum_ in zip(checked, expected[1:], strict=True):
        if entry.name not in skipped and _digest(pack, entry.offset, entry.bytes) != sum_:
            damages.append(f"tensor {entry.name} is damaged")
    return damages


def _digest(pack: Pack, offset: int, length: int) -> int:
    digest = xxhash.xxh3_64()
    for start in range(0, length, _CHUNK):
        digest.update(pack.read(offset + start, min(_CHUNK, length - start)))
    return digest.intdigest()


def _extent_damages(pack: Pack, group: Group, expert: int, counter: _Counter) -> list[str]:
    expected = pack.checksums(group)[expert]
    damages = []
    for number, level in enumerate(pack.levels):
        extent = pack.extent(group, level, expert)
        if extent.size and xxhash.xxh3_64_intdigest(extent) != expected[number]:
            damages.append(f"level {level} of expert {expert} of {group.name} is damaged")
        elif level == 2:
            damages += _gain_damages(group, expert, extent)
        counter.add(extent.size)
    return damages


def _gain_damages(group: Group, expert: int, extent: Bytes) -> Iterator[str]:
    least, most = _native.gain_range
    for tensor, start in zip(group.tensors, group.plane_offsets(2), strict=False):
        for level, gain in zip(LEVELS, gains(tensor, extent[start:]), strict=True):
            if not least <= gain <= most:
                yield f"the gain of expert {expert} of {tensor.name} at level {level} is {gain}"


class _Counter:
    """Counts extents and their bytes for the progress."""

    def __init__(self, pack: Pack, progress: Progress) -> None:
        self._lock = Lock()
        self._progress = progress
        self._bytes = 0
        self._total = sum(entry.bytes for entry in pack.entries.values() if is_extents(entry.name))
        self.extents = 0

    def add(self, size: int) -> None:
        """One extent more, of `size` bytes; 0 where the group has none."""
        with self._lock:
            self.extents += size > 0
            self._bytes += size
            self._progress(self._bytes, self._total)
