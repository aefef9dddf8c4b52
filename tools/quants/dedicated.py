"""GGUFs whose experts have one type each, by llama.cpp's own quantizer."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

import llama_cpp.llama_cpp as bindings
import numpy as np
from gguf import GGMLQuantizationType

from edgemoe.errors import EdgeMoEError
from edgemoe.experts.loading import collected_log
from edgemoe.packs.calibration import Calibration
from edgemoe.packs.source import Source, SourceTensor


def quantize_experts(source: Path, output: Path, type_name: str, calibration: Calibration, threads: int) -> None:
    """Writes `source` with its experts as `type_name`, their errors weighed by `calibration`, and all else as it is.

    Raises:
        EdgeMoEError: llama.cpp refuses.
    """
    with Source(source) as opened:
        tensors = opened.tensors
    params = bindings.llama_model_quantize_default_params()
    params.nthread = threads
    params.ftype = bindings.LLAMA_FTYPE_MOSTLY_Q4_K_S  # any quantized one: every tensor's type is given by name
    params.allow_requantize = True
    overrides = _overrides(tensors, GGMLQuantizationType[type_name])
    params.tt_overrides = ctypes.cast(overrides, type(params.tt_overrides))
    importance = importance_matrix(tensors, calibration)
    entries = _imatrix(importance)
    params.imatrix = ctypes.cast(entries, type(params.imatrix))
    with collected_log(quiet=True) as log:
        if bindings.llama_model_quantize(os.fsencode(source), os.fsencode(output), ctypes.byref(params)) != 0:
            raise EdgeMoEError(f"llama.cpp could not write {source} with experts of {type_name}: {log.errors()}")


def importance_matrix(tensors: list[SourceTensor], calibration: Calibration) -> dict[str, np.ndarray]:
    """As llama-imatrix makes it: for each expert tensor the mean of x^2 by channel, expert after expert."""
    found = {}
    for tensor in tensors:
        rows = [calibration.importance(tensor.name, expert) for expert in range(tensor.ne[2] if tensor.expert else 0)]
        if rows and all(row is not None for row in rows):
            found[tensor.name] = np.concatenate(rows).astype(np.float32)
    return found


def _overrides(tensors: list[SourceTensor], type_: GGMLQuantizationType) -> ctypes.Array:
    """A pattern for each tensor, ended by an empty one."""
    entries = (bindings.llama_model_tensor_override * (len(tensors) + 1))()
    for entry, tensor in zip(entries, tensors, strict=False):
        entry.pattern = f"^{tensor.name}$".replace(".", r"\.").encode()
        entry.type = type_ if tensor.expert else tensor.type
    return entries


def _imatrix(importance: Mapping[str, np.ndarray]) -> ctypes.Array:
    """Entries that point into `importance`, ended by an empty one."""
    entries = (bindings.llama_model_imatrix_data * (len(importance) + 1))()
    for entry, (name, values) in zip(entries, importance.items(), strict=False):
        entry.name = name.encode()
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entry.size = values.size
    return entries
