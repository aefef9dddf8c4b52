"""Quantization by ggml itself, taken from the llama.cpp that llama-cpp-python carries."""

import ctypes
from functools import cache

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

_PROTOTYPE = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.c_int,  # type
    ctypes.c_void_p,  # source
    ctypes.c_void_p,  # destination
    ctypes.c_int64,  # first value
    ctypes.c_int64,  # rows
    ctypes.c_int64,  # values in a row
    ctypes.c_void_p,  # importance matrix
)


@cache
def _quantize_chunk():
    from llama_cpp import llama_cpp

    return _PROTOTYPE(("ggml_quantize_chunk", llama_cpp._lib))


def row_bytes(type_: GGMLQuantizationType, columns: int) -> int:
    """Bytes of one row of `columns` values, a multiple of the type's block."""
    block, size = GGML_QUANT_SIZES[type_]
    if columns % block:
        raise ValueError(f"a row of {columns} values is no multiple of the {type_.name} block of {block}")
    return columns // block * size


def quantize(values: np.ndarray, type_: GGMLQuantizationType) -> np.ndarray:
    """Float32 (rows, columns) to uint8 (rows, bytes of a row)."""
    rows, columns = values.shape
    values = np.ascontiguousarray(values, np.float32)
    if type_ == GGMLQuantizationType.F32:
        return values.view(np.uint8)
    data = np.empty((rows, row_bytes(type_, columns)), np.uint8)
    written = _quantize_chunk()(type_, values.ctypes.data, data.ctypes.data, 0, rows, columns, None)
    if written != data.nbytes:
        raise RuntimeError(f"ggml wrote {written} bytes of {type_.name} where {data.nbytes} were due")
    return data
