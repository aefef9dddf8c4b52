"""Quantization with llama.cpp's own functions, so that files have the bytes that its tools write."""

from __future__ import annotations

import ctypes

import llama_cpp.llama_cpp as llama_cpp
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

# What llama-quantize falls back to where the block does not divide the row.
_FALLBACK = {
    "Q2_K": "IQ4_NL",
    "Q3_K": "IQ4_NL",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
    "TQ1_0": "Q4_0",
    "TQ2_0": "Q4_0",
}
_PLAIN = ("F32", "F16", "BF16")

_requires_importance = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_int)(("ggml_quantize_requires_imatrix", llama_cpp._lib))
_quantize_chunk = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.c_int,  # type
    ctypes.c_void_p,  # float values
    ctypes.c_void_p,  # destination
    ctypes.c_int64,  # index of the first value
    ctypes.c_int64,  # rows
    ctypes.c_int64,  # values in a row
    ctypes.c_void_p,  # importance of each column, or null
)(("ggml_quantize_chunk", llama_cpp._lib))


def fit(name: str, row: int) -> GGMLQuantizationType:
    """The named type, or the one used in its place for rows of this length."""
    fallback = "IQ4_NL" if name.startswith("IQ") else _FALLBACK.get(name, "F16")
    for candidate in (name, fallback, "F16"):
        qtype = GGMLQuantizationType[candidate]
        if row % GGML_QUANT_SIZES[qtype][0] == 0:
            return qtype
    raise AssertionError("F16 fits every row")


def quantize(values: np.ndarray, qtype: GGMLQuantizationType) -> np.ndarray:
    """The values as bytes, one row of bytes for each row of values."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    if qtype.name in _PLAIN:
        data = quants.quantize(values, qtype)
        return data.view(np.uint8).reshape(*values.shape[:-1], -1)
    data = np.empty(quants.quant_shape_to_byte_shape(values.shape, qtype), dtype=np.uint8)
    row = values.shape[-1]
    even = np.ones(row, dtype=np.float32)
    importance = even.ctypes.data if _requires_importance(qtype) else None
    written = _quantize_chunk(qtype, values.ctypes.data, data.ctypes.data, 0, values.size // row, row, importance)
    if written != data.nbytes:
        raise ValueError(f"ggml wrote {written} bytes of {qtype.name} where {data.nbytes} were expected")
    return data
