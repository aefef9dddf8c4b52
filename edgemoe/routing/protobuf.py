"""ONNX files, written field by field: the few messages of onnx.proto (IR version 8, opset 17) that the router needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

_TYPES = {np.dtype(t): number for t, number in (("f4", 1), ("u1", 2), ("i1", 3), ("i4", 6), ("i8", 7), ("f8", 11))}
_INT, _INTS = 2, 7  # AttributeProto.AttributeType
_OPSET = 17
_IR_VERSION = 8


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(tag: int, value: int) -> bytes:
    return _varint(tag << 3) + _varint(value)


def _bytes(tag: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(tag << 3 | 2) + _varint(len(data)) + data


@dataclass
class Graph:
    """A graph that is written in the order in which its nodes are added."""

    name: str
    _nodes: list[bytes] = field(default_factory=list)
    _constants: list[bytes] = field(default_factory=list)
    _inputs: list[bytes] = field(default_factory=list)
    _outputs: list[bytes] = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: int | Sequence[int]) -> str:
        """Adds a node with one output, and returns that output's name."""
        parts = [_bytes(1, name) for name in inputs] + [_bytes(2, output), _bytes(3, output), _bytes(4, operator)]
        for name, value in attributes.items():
            if isinstance(value, int):
                parts.append(_bytes(5, _bytes(1, name) + _number(3, value) + _number(20, _INT)))
            else:
                numbers = b"".join(_number(8, v) for v in value)
                parts.append(_bytes(5, _bytes(1, name) + numbers + _number(20, _INTS)))
        self._nodes.append(b"".join(parts))
        return output

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Stores an array in the file."""
        dims = b"".join(_number(1, size) for size in value.shape)
        data = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes()
        self._constants.append(dims + _number(2, _TYPES[value.dtype]) + _bytes(8, name) + _bytes(9, data))
        return name

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """Declares an input; a size that is text may differ from run to run."""
        self._inputs.append(_value_info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Declares an output."""
        self._outputs.append(_value_info(name, dtype, shape))

    def model(self, metadata: Mapping[str, str]) -> bytes:
        """The bytes of an ONNX file."""
        graph = b"".join(_bytes(1, node) for node in self._nodes) + _bytes(2, self.name)
        graph += b"".join(_bytes(5, c) for c in self._constants)
        graph += b"".join(_bytes(11, i) for i in self._inputs) + b"".join(_bytes(12, o) for o in self._outputs)
        opset = _bytes(1, "") + _number(2, _OPSET)
        properties = b"".join(_bytes(14, _bytes(1, key) + _bytes(2, value)) for key, value in metadata.items())
        return _number(1, _IR_VERSION) + _bytes(2, "edgemoe") + _bytes(7, graph) + _bytes(8, opset) + properties


def _value_info(name: str, dtype: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_bytes(1, _number(1, d) if isinstance(d, int) else _bytes(2, d)) for d in shape)
    tensor = _number(1, _TYPES[np.dtype(dtype)]) + _bytes(2, dims)
    return _bytes(1, name) + _bytes(2, _bytes(1, tensor))
