"""From a pack back to a plain GGUF, with the experts as they are at one level."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import xxhash
from gguf import GGMLQuantizationType

from edgemoe import machine
from edgemoe.errors import EdgeMoEError, ModelError
from edgemoe.packs.dense import DenseTensor, dense_chunks, quantize, type_bytes, type_name
from edgemoe.packs.header import DEFAULT_ALIGNMENT, Entry, align, write_header
from edgemoe.packs.layout import KEYS, LAST_LEVEL, ExpertTensor, Format, Group, plane_bytes
from edgemoe.packs.partial import PartialFile
from edgemoe.packs.planes import Bytes, assemble, dequantize
from edgemoe.packs.reader import Pack

Progress = Callable[[int, int], None]
"""Told how many experts are done, and of how many."""

EXPERT_TYPES = ("F16", "Q8_0", "F32")


@dataclass(frozen=True)
class Unpacked:
    """What `unpack` made. `types` counts the expert tensors of each ggml type; `notes` say what was left out."""

    path: Path
    bytes: int
    seconds: float
    level: int
    types: dict[str, int]
    notes: list[str]


def unpack(
    path: str | os.PathLike[str],
    level: int | None,
    output: str | os.PathLike[str],
    *,
    type_: str | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Unpacked:
    """Writes the model of a pack as a plain GGUF, with the experts as `level` has them (None: the last one).

    `type_` is one of EXPERT_TYPES. None means the source's own type where the level has all of its bits, and then its
    very bytes; F16 elsewhere. Interrupted attempts are gone on with, as in `writer.pack`.

    Raises:
        ModelError, ReadError: when the pack is damaged or cannot be read.
        WriteError: when the output cannot be written.
        EdgeMoEError: when the pack lacks the level, or the type is unknown.
    """
    started = time.monotonic()
    if type_ is not None and type_.upper() not in EXPERT_TYPES:
        raise EdgeMoEError(f"experts cannot be unpacked as {type_!r}: choose one of {', '.join(EXPERT_TYPES)}")
    with Pack(path) as pack:
        output = Path(output)
        if os.path.exists(output) and os.path.samefile(output, path):
            raise EdgeMoEError(f"{output} is the pack itself: choose another name")
        level = pack.levels[-1] if level is None else level
        if level not in pack.levels:
            raise EdgeMoEError(f"{path} has no level {level}: it has {', '.join(map(str, pack.levels))}")
        plan = _Plan(pack, level, type_.upper() if type_ else None)
        with PartialFile(output, plan.bytes, plan.fingerprint(), overwrite=overwrite) as file:
            try:
                _Writer(pack, plan, file, progress or (lambda done, total: None)).run(threads or machine.processors())
            except ModelError:  # a damaged pack
                file.discard()
                raise
            pack.source.check_unchanged()
            file.publish()
    return Unpacked(output, plan.bytes, time.monotonic() - started, level, plan.count_types(), plan.notes())


class _Plan:
    """Where everything lies in the file to be."""

    def __init__(self, pack: Pack, level: int, type_: str | None) -> None:
        self._pack = pack
        self.level = level
        self.types = {t.name: _type_at(t, level, type_) for group in pack.groups for t in group.tensors}
        self.dense = [DenseTensor(tensor, tensor.type) for tensor in pack.dense]
        entries = [tensor.entry for tensor in self.dense]
        entries += [self._entry(tensor) for group in pack.groups for tensor in group.tensors]
        keys = {k: v for k, v in pack.keys.items() if not k.startswith(KEYS) and k != "general.alignment"}
        self.header, placed, _ = write_header(keys, entries, DEFAULT_ALIGNMENT)
        self.entries = {entry.name: entry for entry in placed}
        self.bytes = align(placed[-1].offset + placed[-1].bytes, DEFAULT_ALIGNMENT)

    def _entry(self, tensor: ExpertTensor) -> Entry:
        shape = (tensor.columns, tensor.rows, tensor.experts)
        return Entry(tensor.name, shape, self.types[tensor.name], type_bytes(shape, self.types[tensor.name]))

    def fingerprint(self) -> dict[str, Any]:
        return {
            "pack": self._pack.source.identity(),
            "level": self.level,
            "header": xxhash.xxh3_128_hexdigest(self.header),
            "checksums": xxhash.xxh3_128_hexdigest(self._pack.small_checksums()),
        }

    def count_types(self) -> dict[str, int]:
        names = [type_name(kind) for kind in self.types.values()]
        return {name: names.count(name) for name in sorted(set(names))}

    def notes(self) -> list[str]:
        biased = self.level in self._pack.bias_levels and self._pack.tables is not None
        if not biased:
            return []
        return [
            f"at level {self.level} the pack adds row biases, which weights cannot hold: without them, results differ "
            "from the pack's"
        ]


def _type_at(tensor: ExpertTensor, level: int, type_: str | None) -> int:
    if type_ is not None:
        return int(GGMLQuantizationType[type_])
    return tensor.type if is_whole(tensor, level) else int(GGMLQuantizationType.F16)


def is_whole(tensor: ExpertTensor, level: int) -> bool:
    """Whether `level` has all bits of the source's weights."""
    return tensor.format is not Format.T16 and level >= LAST_LEVEL[tensor.format]


class _Writer:
    def __init__(self, pack: Pack, plan: _Plan, file: PartialFile, progress: Progress) -> None:
        self._pack = pack
        self._plan = plan
        self._file = file
        self._progress = progress
        self._stopped = Event()

    def run(self, threads: int) -> None:
        """Writes everything; on return all of it is on the disk."""
        self._file.write(0, self._plan.header)
        total = sum(group.experts for group in self._pack.groups)
        done = 0
        with ThreadPoolExecutor(threads, "edgemoe-unpack") as workers:
            try:
                for _ in workers.map(self._copy_dense, self._plan.dense):
                    pass
                for group in self._pack.groups:
                    if group.name not in self._file.done:
                        for _ in workers.map(
                            lambda expert, group=group: self._expert(group, expert), range(group.experts)
                        ):
                            done += 1
                            self._progress(done, total)
                        self._file.commit(group.name)
                    else:
                        done += group.experts
                        self._progress(done, total)
            finally:
                self._stopped.set()
        self._file.sync()

    def _copy_dense(self, dense: DenseTensor) -> None:
        offset = self._plan.entries[dense.tensor.name].offset
        for chunk in dense_chunks(self._pack.source, dense):
            if self._stopped.is_set():
                return
            self._file.write(offset, chunk)
            offset += chunk.size

    def _expert(self, group: Group, expert: int) -> None:
        if self._stopped.is_set():
            return
        extents = self._extents(group, expert)
        for number, tensor in enumerate(group.tensors):
            planes = dict(_planes(group, number, extents))
            entry = self._plan.entries[tensor.name]
            size = entry.bytes // tensor.experts
            self._file.write(entry.offset + expert * size, self._matrix(tensor, planes, entry.type))

    def _extents(self, group: Group, expert: int) -> dict[int, Bytes]:
        """Those up to the level that is unpacked, checked."""
        sums = self._pack.checksums(group)[expert]
        extents = {}
        for level, expected in zip(self._pack.levels, sums, strict=True):
            if level > self._plan.level or not group.extent(level):
                continue
            extent = self._pack.extent(group, level, expert)
            if xxhash.xxh3_64_intdigest(extent) != expected:
                raise ModelError(f"{self._pack.path}: level {level} of expert {expert} of {group.name} is damaged")
            extents[level] = extent
        return extents

    def _matrix(self, tensor: ExpertTensor, planes: dict[int, Bytes], kind: int) -> Bytes:
        if kind == tensor.type and is_whole(tensor, self._plan.level):
            return assemble(tensor, planes)
        return quantize(dequantize(tensor, planes, self._plan.level, self._pack.tables), kind)


def _planes(group: Group, number: int, extents: dict[int, Bytes]) -> Iterator[tuple[int, Bytes]]:
    """The planes of one matrix of a group, by level."""
    for level, extent in extents.items():
        start = group.plane_offsets(level)[number]
        size = plane_bytes(group.tensors[number], level, biased=level in group.bias_levels)
        if size:
            yield level, np.ascontiguousarray(extent[start : start + size])
