"""What is no expert: copied as it is, or its matrices converted to a smaller type."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

from edgemoe.errors import EdgeMoEError
from edgemoe.packs.header import Entry
from edgemoe.packs.planes import Bytes, Floats
from edgemoe.packs.source import Source, SourceTensor

DENSE_TYPES = ("F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
"""Types that the gguf library or ggml can write and llama.cpp computes with."""
_NARROW = {"Q6_K": "Q8_0", "Q5_K": "Q5_1", "Q4_K": "Q5_0"}
"""What a matrix becomes whose rows are no multiple of the type's 256 weights, as in llama-quantize."""
# As in llama-quantize: what is small or sensitive keeps its type.
_KEPT = re.compile(r"_norm|ffn_gate_inp|ssm_conv1d|shortconv\.conv|position_embd|token_types|rope_|pos_embd")
_CHUNK_BYTES = 4 << 20
_CHUNK_WEIGHTS = 1 << 22


@dataclass(frozen=True)
class DenseTensor:
    """A tensor of the source, and the type that it gets."""

    tensor: SourceTensor
    type: int

    @property
    def entry(self) -> Entry:
        size = self.tensor.bytes if self.type == self.tensor.type else type_bytes(self.tensor.shape, self.type)
        return Entry(self.tensor.name, self.tensor.shape, self.type, size)


def type_bytes(shape: tuple[int, ...], type_: int) -> int:
    """Bytes of a tensor of `shape` (row length first) in ggml's type `type_`."""
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(type_)]
    return math.prod(shape) // block * size


def plan_dense(tensors: list[SourceTensor], type_name: str | None) -> list[DenseTensor]:
    """What each dense tensor becomes: matrices that `type_name` makes smaller get that type (or, where it does not fit
    their rows, the one that llama-quantize takes in its place), all others keep theirs.

    Raises:
        EdgeMoEError: when no tensor can be written in that type.
    """
    if type_name is None:
        return [DenseTensor(tensor, tensor.type) for tensor in tensors]
    if type_name.upper() not in DENSE_TYPES:
        raise EdgeMoEError(
            f"dense tensors cannot be converted to {type_name!r}: choose one of {', '.join(DENSE_TYPES)}"
        )
    names = [type_name.upper(), *filter(None, [_NARROW.get(type_name.upper())])]
    kinds = [GGMLQuantizationType[name] for name in names]
    return [DenseTensor(tensor, _dense_type(tensor, kinds)) for tensor in tensors]


def _dense_type(tensor: SourceTensor, kinds: list[GGMLQuantizationType]) -> int:
    """The first of `kinds` that fits the rows, where it makes the tensor smaller; else its own type."""
    if len(tensor.shape) < 2 or not tensor.name.endswith(".weight") or _KEPT.search(tensor.name):
        return tensor.type
    fitting = (kind for kind in kinds if tensor.shape[0] % GGML_QUANT_SIZES[kind][0] == 0)
    kind = next(fitting, None)
    if kind is None or not can_dequantize(tensor.type) or type_bytes(tensor.shape, kind) >= tensor.bytes:
        return tensor.type
    return int(kind)


def dense_chunks(source: Source, dense: DenseTensor) -> Iterator[Bytes]:
    """The bytes of a dense tensor in its new type, piece by piece: uint8 arrays."""
    tensor = dense.tensor
    if dense.type == tensor.type:
        for start in range(0, tensor.bytes, _CHUNK_BYTES):
            yield source.read(tensor, start, min(_CHUNK_BYTES, tensor.bytes - start))
        return
    rows = math.prod(tensor.shape[1:])
    row_bytes = tensor.bytes // rows
    step = max(1, _CHUNK_WEIGHTS // tensor.shape[0])
    for start in range(0, rows, step):
        count = min(step, rows - start)
        raw = source.read(tensor, start * row_bytes, count * row_bytes).reshape(count, row_bytes)
        yield quantize(dequantize(raw, tensor.type), dense.type)


def dequantize(raw: Bytes, type_: int) -> Floats:
    """Rows of ggml's type `type_` as floats: uint8 [rows, bytes of a row] to float32 [rows, columns]."""
    return np.ascontiguousarray(quants.dequantize(raw, GGMLQuantizationType(type_)), np.float32)


def quantize(weights: Floats, type_: int) -> Bytes:
    """Rows of weights in ggml's type `type_`: float32 [rows, columns] to uint8 [rows, bytes of a row]."""
    kind = GGMLQuantizationType(type_)
    if kind.name in _NARROW:  # the gguf library reads k-quants and does not write them
        return _quantize_by_ggml(weights, kind)
    return np.ascontiguousarray(quants.quantize(weights, kind)).view(np.uint8).reshape(len(weights), -1)


def _quantize_by_ggml(weights: Floats, kind: GGMLQuantizationType) -> Bytes:
    from llama_cpp.llama_cpp import _lib

    types = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    chunk = ctypes.CFUNCTYPE(ctypes.c_size_t, *types, ctypes.c_void_p)(("ggml_quantize_chunk", _lib))
    weights = np.ascontiguousarray(weights, np.float32)
    rows, columns = weights.shape
    block, size = GGML_QUANT_SIZES[kind]
    data = np.empty((rows, columns // block * size), np.uint8)
    chunk(kind, weights.ctypes.data, data.ctypes.data, 0, rows, columns, None)
    return data


def can_dequantize(type_: int) -> bool:
    """Whether the gguf library can turn ggml's type `type_` into floats."""
    try:
        kind = GGMLQuantizationType(type_)
        quants.dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except (ValueError, NotImplementedError):  # no type of ggml; a type that the library has no code for
        return False
    return True


def type_name(type_: int) -> str:
    """ggml's name of a type."""
    try:
        return GGMLQuantizationType(type_).name
    except ValueError:
        return f"type {type_}"
