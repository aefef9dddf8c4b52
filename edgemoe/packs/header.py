"""GGUF headers as they lie in files: key-values are copied verbatim from one to another.

llama.cpp parses and checks a file first (`summary.open_model`); what is read here is what it has accepted. Copying
bytes keeps what no parser of ours needs to understand: nested arrays, text that is no UTF-8, types of the future.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgemoe.errors import ModelError

DEFAULT_ALIGNMENT = 32
_U32, _STRING, _ARRAY = 4, 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_VERSION = 3


@dataclass(frozen=True)
class Value:
    """A metadata value: its GGUF type and its bytes."""

    type: int
    data: bytes

    @staticmethod
    def u32(number: int) -> Value:
        """An unsigned 32-bit number."""
        return Value(_U32, struct.pack("<I", number))

    @staticmethod
    def text(text: str) -> Value:
        """A string."""
        return Value(_STRING, _string(text))

    @staticmethod
    def texts(texts: Sequence[str]) -> Value:
        """An array of strings."""
        return Value(_ARRAY, struct.pack("<IQ", _STRING, len(texts)) + b"".join(map(_string, texts)))

    @staticmethod
    def numbers(numbers: Sequence[int], dtype: str) -> Value:
        """An array of numbers; `dtype` is "u4" or "u8"."""
        kind = {"u4": 4, "u8": 10}[dtype]
        data = np.asarray(numbers, f"<{dtype}").tobytes()
        return Value(_ARRAY, struct.pack("<IQ", kind, len(numbers)) + data)

    def decode(self) -> Any:
        """The value as Python has it: a number, a string, or a list of them.

        Raises:
            ModelError: for arrays of arrays, of which edgemoe has none.
        """
        return _decode(self.type, self.data)


@dataclass(frozen=True)
class Entry:
    """One tensor: `shape` is as ggml orders it, row length first; `offset` counts from the start of the file."""

    name: str
    shape: tuple[int, ...]
    type: int
    bytes: int
    offset: int = 0


@dataclass(frozen=True)
class Header:
    """The parsed header of one file; entries have no `bytes`, which depend on what ggml knows of their types."""

    keys: dict[str, Value]
    entries: list[Entry]
    data_offset: int


def read_header(path: str | os.PathLike[str], limit: int) -> Header:
    """Parses the first `limit` bytes of a file that llama.cpp has accepted.

    Raises:
        ModelError: when the header is longer than `limit`, or damaged.
    """
    with open(path, "rb") as file:
        return parse_header(file.read(limit), os.fspath(path))


def parse_header(data: bytes, name: str) -> Header:
    """Parses a header that `data` begins with, of the file `name`.

    Raises:
        ModelError: when it is longer than `data`, or damaged.
    """
    try:
        return _parse(_Cursor(data))
    except (struct.error, IndexError, KeyError, ValueError, OverflowError, MemoryError) as error:
        raise ModelError(f"{name} has a damaged GGUF header: {error}") from error


def _parse(cursor: _Cursor) -> Header:
    cursor.position = 8  # magic and version
    n_tensors, n_keys = cursor.number("Q"), cursor.number("Q")
    keys: dict[str, Value] = {}
    for _ in range(n_keys):
        name, kind = cursor.text(), cursor.number("I")
        start = cursor.position
        cursor.skip(kind)
        keys[name] = Value(kind, cursor.data[start : cursor.position])
    relative = []
    for _ in range(n_tensors):
        name = cursor.text()
        shape = tuple(cursor.number("Q") for _ in range(cursor.number("I")))
        relative.append(Entry(name, shape, cursor.number("I"), 0, cursor.number("Q")))
    alignment = keys["general.alignment"].decode() if "general.alignment" in keys else DEFAULT_ALIGNMENT
    data = align(cursor.position, alignment)
    return Header(keys, [Entry(e.name, e.shape, e.type, 0, data + e.offset) for e in relative], data)


def write_header(
    keys: Mapping[str, Value], entries: Sequence[Entry], alignment: int
) -> tuple[bytes, list[Entry], dict[str, int]]:
    """A header for `entries`, one after another, each aligned.

    Returns:
        The bytes, padded up to the first tensor; the entries with their offsets; and where in the file the data of each
        key begins, so that a value of the same length can be written later.
    """
    out = bytearray(b"GGUF" + struct.pack("<IQQ", _VERSION, len(entries), len(keys)))
    places = {}
    for name, value in keys.items():
        out += _string(name) + struct.pack("<I", value.type)
        places[name] = len(out)
        out += value.data
    relative, offset = [], 0
    for entry in entries:
        out += _string(entry.name) + struct.pack("<I", len(entry.shape))
        out += struct.pack(f"<{len(entry.shape)}QIQ", *entry.shape, entry.type, offset)
        relative.append(offset)
        offset = align(offset + entry.bytes, alignment)
    out += bytes(-len(out) % alignment)
    placed = [
        Entry(e.name, e.shape, e.type, e.bytes, len(out) + start) for e, start in zip(entries, relative, strict=True)
    ]
    return bytes(out), placed, places


def align(offset: int, alignment: int) -> int:
    """The first multiple of `alignment` from `offset` on."""
    return -(-offset // alignment) * alignment


def _string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def number(self, code: str) -> int:
        [value] = struct.unpack_from(f"<{code}", self.data, self.position)
        self.position += struct.calcsize(f"<{code}")
        return int(value)

    def text(self) -> str:
        length = self.number("Q")
        self._advance(length)
        return self.data[self.position - length : self.position].decode("utf-8", "surrogateescape")

    def skip(self, kind: int) -> None:
        if kind == _STRING:
            length = self.number("Q")
            self._advance(length)
        elif kind == _ARRAY:
            element, count = self.number("I"), self.number("Q")
            if element in _SCALARS:
                self._advance(count * struct.calcsize(f"<{_SCALARS[element]}"))
            else:
                for _ in range(count):
                    self.skip(element)
        else:
            self._advance(struct.calcsize(f"<{_SCALARS[kind]}"))

    def _advance(self, count: int) -> None:
        if count > len(self.data) - self.position:
            raise ValueError(f"{count} bytes at {self.position} are beyond its end")
        self.position += count


def _decode(kind: int, data: bytes) -> Any:
    cursor = _Cursor(data)
    if kind == _STRING:
        return cursor.text()
    if kind in _SCALARS:
        return struct.unpack(f"<{_SCALARS[kind]}", data)[0]
    element, count = cursor.number("I"), cursor.number("Q")
    if element == _STRING:
        return [cursor.text() for _ in range(count)]
    if element not in _SCALARS:
        raise ModelError("metadata has an array of arrays where numbers or texts belong")
    return list(struct.unpack_from(f"<{count}{_SCALARS[element]}", data, cursor.position))
