"""Shows llama.cpp a model whose experts stay on disk."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp.llama_cpp as bindings

from edgemoe import _native


class _BufferOverride(ctypes.Structure):
    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


_LOCKED_MODES = (bindings.LLAMA_LOAD_MODE_MLOCK, bindings.LLAMA_LOAD_MODE_MMAP_MLOCK)


def load_model(engine: Any, params: Any, *, planning: bool = False) -> Any:
    """llama.cpp's model over `engine`'s stream, or None where llama.cpp refuses it.

    `params` is a llama_model_params and is left as it is; what stays on disk gets the buffer type that only reserves
    addresses. With `planning`, llama.cpp allocates nothing.
    """
    own = type(params).from_buffer_copy(params)
    overrides = (_BufferOverride * 2)(_BufferOverride(engine.pattern().encode(), engine.buffer_type()))
    own.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p)
    locked = params.load_mode in _LOCKED_MODES and not planning
    own.load_mode = bindings.LLAMA_LOAD_MODE_MLOCK if locked else bindings.LLAMA_LOAD_MODE_NONE
    own.lazy_mode = bindings.LLAMA_LAZY_MODE_OFF
    own.use_extra_bufts = False
    own.no_alloc = planning
    model = None
    stream = engine.begin_load(planning)
    try:
        model = bindings.llama_model_load_from_file_ptr(stream, own)
    finally:
        engine.end_load(loaded=bool(model))
    return model


@contextmanager
def collected_log(*, quiet: bool = False) -> Iterator[Any]:
    """What llama.cpp logs on this thread; its assertions become failures that its loaders report."""
    guard = _native.LibraryGuard(quiet)
    try:
        yield guard
    finally:
        guard.close()
