"""Packs as they are read: everything that a file claims is checked before any of it is used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from edgemoe.errors import ModelError
from edgemoe.packs.header import DEFAULT_ALIGNMENT, Entry, Value, align
from edgemoe.packs.layout import (
    ALIGNMENT,
    CHECKSUMS,
    KEYS,
    LEVELS,
    SLICED,
    TABLE_LENGTHS,
    VERSION,
    ExpertTensor,
    Format,
    Group,
    are_levels,
    group_of,
    make_groups,
    pack_entries,
)
from edgemoe.packs.planes import Bytes, Floats, Tables
from edgemoe.packs.source import Source, SourceTensor

_LARGEST_ENTRY = 63
_MOST = 1 << 62


def is_pack(model: Any) -> bool:
    """Whether an opened model (see `summary.open_model`) is a pack."""
    return KEYS + "version" in model.metadata()


class Pack:
    """An opened pack. Any number of threads may read from it.

    Raises:
        ModelError: when the file is no pack, made by a newer edgemoe, or contradicts itself; the message names what and
            with which value.
        ReadError: when it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._source = Source(path)
        try:
            self._check_kind()
            self.levels = self._levels("levels")
            self.bias_levels = self._levels("bias_levels")
            self._check_levels()
            self.source_name = str(self._value("source.name", str))
            self.source_hash = str(self._value("source.xxh3", str))
            self.groups = make_groups(self._expert_tensors(), self.bias_levels)
            self._check_groups()
            self.entries = self._entries()
            self._check_tensors()
            self.tables = self._tables()
        except BaseException:
            self.close()
            raise

    # What the file says

    def _fail(self, message: str) -> ModelError:
        return ModelError(f"{self.path} is a damaged pack: {message}")

    def _check_kind(self) -> None:
        keys = self._source.keys
        if KEYS + "version" not in keys:
            raise ModelError(f"{self.path} is no pack: `edgemoe pack` makes one of it")
        version = self._value("version", int)
        if version > VERSION:
            raise ModelError(
                f"{self.path} is a pack of version {version}, and this edgemoe reads up to version {VERSION}: "
                f"update edgemoe"
            )
        if version < 1:
            raise self._fail(f"{KEYS}version is {version}")
        if len(self._source.paths) != 1:
            raise self._fail(f"it is split into {len(self._source.paths)} files")
        alignment = keys["general.alignment"].decode() if "general.alignment" in keys else DEFAULT_ALIGNMENT
        if alignment != ALIGNMENT:
            raise self._fail(f"general.alignment is {alignment}, not {ALIGNMENT}")

    def _value(self, name: str, kind: type) -> Any:
        value = self._source.keys.get(KEYS + name)
        if value is None:
            raise self._fail(f"{KEYS}{name} is missing")
        decoded = value.decode()
        if not isinstance(decoded, kind) or isinstance(decoded, bool):
            raise self._fail(f"{KEYS}{name} is {_short(decoded)}, which is no {kind.__name__}")
        return decoded

    def _numbers(self, name: str) -> list[int]:
        values = self._value(name, list)
        if not all(type(value) is int for value in values):
            raise self._fail(f"{KEYS}{name} has entries that are no numbers")
        return list(values)

    def _levels(self, name: str) -> tuple[int, ...]:
        return tuple(self._numbers(name))

    def _check_levels(self) -> None:
        if not are_levels(self.levels):
            raise self._fail(f"{KEYS}levels is {_short(list(self.levels))}, not the beginning of {list(LEVELS)}")
        if sorted(set(self.bias_levels)) != list(self.bias_levels) or not set(self.bias_levels) <= set(self.levels):
            raise self._fail(f"{KEYS}bias_levels is {_short(list(self.bias_levels))}, which are no levels of it")

    def _expert_tensors(self) -> list[ExpertTensor]:
        names = self._value("tensors", list)
        formats, types, shapes = self._numbers("formats"), self._numbers("types"), self._numbers("shapes")
        if not names or not len(names) == len(formats) == len(types) == len(shapes) / 3:
            raise self._fail(
                f"{len(names)} tensors have {len(formats)} formats, {len(types)} types and {len(shapes)} / 3 shapes"
            )
        if len(set(names)) != len(names):
            raise self._fail(f"{KEYS}tensors names a tensor twice")
        found = []
        for number, (name, form, kind) in enumerate(zip(names, formats, types, strict=True)):
            columns, rows, experts = shapes[3 * number : 3 * number + 3]
            self._check_expert(name, form, kind, (columns, rows, experts))
            found.append(ExpertTensor(name, Format(form), kind, columns, rows, experts))
        return found

    def _check_expert(self, name: Any, form: int, kind: int, shape: tuple[int, int, int]) -> None:
        if not isinstance(name, str) or group_of(name) is None:
            raise self._fail(f"{_short(name)} is no name of an expert tensor")
        if form not in list(Format):
            raise self._fail(f"the format of {name} is {form}")
        if form != Format.T16 and SLICED.get(kind) != form:
            raise self._fail(f"{name} has slices of {Format(form).name}, but its type is {kind}")
        columns, rows, experts = shape
        if min(shape) < 1 or columns * rows * experts > _MOST or columns % (32 if form == Format.T16 else 256):
            raise self._fail(f"the shape of {name} is {shape}")

    def _check_groups(self) -> None:
        ordered = [tensor.name for group in self.groups for tensor in group.tensors]
        if ordered != self._value("tensors", list):
            raise self._fail(f"{KEYS}tensors is not in the order of groups")
        for group in self.groups:
            if len({tensor.experts for tensor in group.tensors}) != 1:
                raise self._fail(f"the tensors of {group.name} have different numbers of experts")

    # What the file holds

    def _entries(self) -> dict[str, Entry]:
        """The tensors that a pack with this metadata has, with the offsets that the file gives them."""
        found = {tensor.name: tensor for tensor in self._source.tensors}
        plain = [Entry(t.name, t.shape, t.type, t.bytes) for t in self.dense]
        entries = {}
        for entry in pack_entries(self.groups, self.levels, plain):
            tensor = found.pop(entry.name, None)
            if tensor is None:
                raise self._fail(f"tensor {entry.name} is missing")
            if (_padded(tensor.shape), tensor.type, tensor.bytes) != (_padded(entry.shape), entry.type, entry.bytes):
                raise self._fail(
                    f"tensor {entry.name} has shape {tensor.shape} and type {tensor.type}, not {entry.shape} and "
                    f"{entry.type}"
                )
            entries[entry.name] = Entry(entry.name, tensor.shape, tensor.type, tensor.bytes, tensor.offset)
        if found:
            raise self._fail(f"tensor {next(iter(found))} does not belong to any group or level of it")
        return entries

    def _check_tensors(self) -> None:
        for tensor in self.dense:
            if tensor.expert:
                raise self._fail(f"it has the tensor {tensor.name}, which should be planes")
        before = 0
        for entry in self.entries.values():
            if entry.offset % ALIGNMENT or entry.offset < before:
                raise self._fail(f"tensor {entry.name} begins at byte {entry.offset}, where none can begin")
            before = align(entry.offset + entry.bytes, ALIGNMENT)

    def _tables(self) -> Tables | None:
        if f"mwq.t16.{self.levels[0]}" not in self.entries:
            return None
        tables = {}
        for level in self.levels:
            entry = self.entries[f"mwq.t16.{level}"]
            tables[level] = self.read(entry.offset, entry.bytes).view(np.int8).reshape(256, TABLE_LENGTHS[level])
            worst = max(int(tables[level].min()), int(tables[level].max()), key=abs)
            if abs(worst) > _LARGEST_ENTRY:
                raise self._fail(f"the table mwq.t16.{level} has the entry {worst}, beyond {_LARGEST_ENTRY}")
        return tables

    # Reading

    @property
    def keys(self) -> dict[str, Value]:
        """All metadata, that of the source included."""
        return self._source.keys

    @property
    def dense(self) -> list[SourceTensor]:
        """The tensors that are no experts, in file order."""
        return [t for t in self._source.tensors if not t.name.startswith("mwq.") and ".mwq." not in t.name]

    @property
    def source(self) -> Source:
        """The file as a model, for its dense tensors."""
        return self._source

    @property
    def data_offset(self) -> int:
        """Where the header ends and the first tensor begins."""
        return min(entry.offset for entry in self.entries.values())

    @property
    def bytes(self) -> int:
        """Of the whole file."""
        return self._source.bytes

    @property
    def expected_bytes(self) -> int:
        """Where the last tensor, padded, ends."""
        return max(align(entry.offset + entry.bytes, ALIGNMENT) for entry in self.entries.values())

    def read(self, offset: int, length: int) -> Bytes:
        """Bytes of the file: uint8 [length]. Raises ReadError."""
        return self._source.read_at(0, offset, length)

    def extent(self, group: Group, level: int, expert: int) -> Bytes:
        """The planes of `level` of one expert: uint8 [extent], empty where the group has none."""
        size = group.extent(level)
        if not size:
            return np.empty(0, np.uint8)
        return self.read(self.entries[group.tensor_name(level)].offset + expert * size, size)

    def errors(self, group: Group) -> Floats:
        """Relative errors: float32 [experts, levels]."""
        entry = self.entries[group.tensor_name("eps")]
        return self.read(entry.offset, entry.bytes).view("<f4").reshape(group.experts, len(self.levels))

    def checksums(self, group: Group) -> np.ndarray:
        """XXH3-64 of each extent: uint64 [experts, levels]; 0 where there is none."""
        entry = self.entries[group.tensor_name("xxh3")]
        return self.read(entry.offset, entry.bytes).view("<u8").reshape(group.experts, len(self.levels))

    def small_checksums(self) -> np.ndarray:
        """XXH3-64 of the header and of each tensor before them in file order: uint64."""
        entry = self.entries[CHECKSUMS]
        return self.read(entry.offset, entry.bytes).view("<u8")

    def close(self) -> None:
        """Closes the file."""
        self._source.close()

    def __enter__(self) -> Pack:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1, 1, 1, 1)[:4]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
