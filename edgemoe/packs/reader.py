"""Packs as they are read, byte for byte.

Opening one as a model (`summary.open_model`) has checked what running it needs: levels, the list of expert tensors, the
planes of each, tables. What a model has no use for is checked here: order, checksums, errors, what else is in the file.
"""

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
    HEAD_RANK,
    KEYS,
    LEVEL_PRICES,
    TABLE_LENGTHS,
    ExpertTensor,
    Format,
    Group,
    make_groups,
    pack_entries,
)
from edgemoe.packs.planes import Bytes, Floats, Tables
from edgemoe.packs.source import Source, SourceTensor


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
            self.levels = tuple(self._decoded("levels"))
            self.bias_levels = tuple(self._decoded("bias_levels"))
            self.source_name = self._text("source.name")
            self.source_hash = self._text("source.xxh3")
            self.groups = make_groups(self._expert_tensors(), self.bias_levels)
            self._check_order()
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
        alignment = keys["general.alignment"].decode() if "general.alignment" in keys else DEFAULT_ALIGNMENT
        if alignment != ALIGNMENT:
            raise self._fail(f"general.alignment is {alignment}, not {ALIGNMENT}")

    def _decoded(self, name: str) -> Any:
        return self._source.keys[KEYS + name].decode()

    def _text(self, name: str) -> str:
        if KEYS + name not in self._source.keys:
            raise self._fail(f"{KEYS}{name} is missing")
        text = self._decoded(name)
        if not isinstance(text, str):
            raise self._fail(f"{KEYS}{name} is {text!r:.60}, which is no text")
        return text

    def _expert_tensors(self) -> list[ExpertTensor]:
        shapes = np.reshape(self._decoded("shapes"), (-1, 3)).tolist()
        described = zip(*map(self._decoded, ("tensors", "formats", "types")), shapes, strict=True)
        return [ExpertTensor(name, Format(form), kind, *shape) for name, form, kind, shape in described]

    def _check_order(self) -> None:
        ordered = [tensor.name for group in self.groups for tensor in group.tensors]
        if ordered != self._decoded("tensors"):
            raise self._fail(f"{KEYS}tensors is not in the order of groups")

    # What the file holds

    def _entries(self) -> dict[str, Entry]:
        """The tensors that a pack with this metadata has, with the offsets that the file gives them."""
        found = {tensor.name: tensor for tensor in self._source.tensors}
        plain = [Entry(t.name, t.shape, t.type, t.bytes) for t in self.dense]
        entries = {}
        heads = None
        if HEAD_RANK in self._source.keys:
            prices = found.get(LEVEL_PRICES)
            heads = int(self._source.keys[HEAD_RANK].decode()), prices.shape[0] if prices else 0
        for entry in pack_entries(self.groups, self.levels, plain, heads):
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
