"""A GGUF file taken apart into its raw fields, so that it can be put together wrongly."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

UINT32, STRING, ARRAY = 4, 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


@dataclass
class RawKey:
    name: bytes
    type: int
    value: bytes
    name_length: int | None = None  # what the file claims, if not the truth


@dataclass
class RawTensor:
    name: bytes
    shape: list[int]
    type: int
    offset: int
    name_length: int | None = None
    n_dims: int | None = None


@dataclass
class RawGguf:
    """Fields in file order; `n_keys` and `n_tensors` override the counts that the file claims."""

    keys: list[RawKey]
    tensors: list[RawTensor]
    data: bytes
    magic: bytes = b"GGUF"
    version: int = 3
    n_keys: int | None = None
    n_tensors: int | None = None

    def key(self, suffix: str) -> RawKey:
        return next(key for key in self.keys if key.name.decode().endswith(suffix))

    def tensor(self, suffix: str) -> RawTensor:
        return next(tensor for tensor in self.tensors if tensor.name.decode().endswith(suffix))

    def remove_tensor(self, suffix: str) -> None:
        """Leave a tensor out and close the gap, so that nothing else is wrong with the file."""
        tensor = self.tensor(suffix)
        start = tensor.offset
        end = min((t.offset for t in self.tensors if t.offset > start), default=len(self.data))
        self.tensors.remove(tensor)
        self.data = self.data[:start] + self.data[end:]
        for later in self.tensors:
            later.offset -= end - start if later.offset > start else 0

    def set_uint32(self, suffix: str, value: int) -> None:
        key = self.key(suffix)
        key.type, key.value = UINT32, struct.pack("<I", value)

    def set_string(self, suffix: str, value: bytes) -> None:
        key = self.key(suffix)
        key.type, key.value = STRING, struct.pack("<Q", len(value)) + value

    def header(self) -> bytes:
        out = bytearray(self.magic)
        out += struct.pack("<I", self.version)
        out += struct.pack("<Q", len(self.tensors) if self.n_tensors is None else self.n_tensors)
        out += struct.pack("<Q", len(self.keys) if self.n_keys is None else self.n_keys)
        for key in self.keys:
            out += struct.pack("<Q", len(key.name) if key.name_length is None else key.name_length)
            out += key.name + struct.pack("<I", key.type) + key.value
        for tensor in self.tensors:
            out += struct.pack("<Q", len(tensor.name) if tensor.name_length is None else tensor.name_length)
            out += tensor.name
            out += struct.pack("<I", len(tensor.shape) if tensor.n_dims is None else tensor.n_dims)
            out += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
            out += struct.pack("<IQ", tensor.type, tensor.offset)
        return bytes(out)

    def build(self) -> bytes:
        head = self.header()
        return head + bytes(-len(head) % 32) + self.data


class _Cursor:
    def __init__(self, data: bytes):
        self._data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        self.position += count
        return self._data[self.position - count : self.position]

    def number(self, code: str) -> int:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0]

    def string(self) -> bytes:
        return self.take(self.number("Q"))

    def skip_value(self, type_: int) -> None:
        if type_ == STRING:
            self.string()
        elif type_ == ARRAY:
            element, count = self.number("I"), self.number("Q")
            for _ in range(count):
                self.skip_value(element)
        else:
            self.take(_SIZES[type_])


def read(path: str | Path) -> RawGguf:
    """Take a good file with the default alignment apart."""
    data = Path(path).read_bytes()
    cursor = _Cursor(data)
    magic, version = cursor.take(4), cursor.number("I")
    n_tensors, n_keys = cursor.number("Q"), cursor.number("Q")
    keys, tensors = [], []
    for _ in range(n_keys):
        name, type_ = cursor.string(), cursor.number("I")
        start = cursor.position
        cursor.skip_value(type_)
        keys.append(RawKey(name, type_, data[start : cursor.position]))
    for _ in range(n_tensors):
        name = cursor.string()
        shape = [cursor.number("Q") for _ in range(cursor.number("I"))]
        tensors.append(RawTensor(name, shape, cursor.number("I"), cursor.number("Q")))
    start = cursor.position + -cursor.position % 32
    return RawGguf(keys, tensors, data[start:], magic, version)
