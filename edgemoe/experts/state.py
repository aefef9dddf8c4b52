"""The state of a context (KV cache, recurrent state) as bytes."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp.llama_cpp as bindings
import numpy as np

from edgemoe.errors import EdgeMoEError

_BYTES = ctypes.POINTER(ctypes.c_uint8)


def state_size(context: Any) -> int:
    """Bytes that `read_state` needs at most; it needs them twice while it copies."""
    return int(bindings.llama_state_get_size(context))


def read_state(context: Any) -> bytes:
    """What `write_state` restores."""
    size = state_size(context)
    buffer = np.empty(size, dtype=np.uint8)
    written = bindings.llama_state_get_data(context, buffer.ctypes.data_as(_BYTES), size)
    return buffer[:written].tobytes()


def write_state(context: Any, state: bytes, size: int) -> None:
    """Restores `state`, which was `size` bytes long when it was read.

    Raises:
        EdgeMoEError: it is damaged, or of another model or context.
    """
    if len(state) != size:
        raise EdgeMoEError("the saved state is damaged: its length is not the one it names")
    pointer = np.frombuffer(state, dtype=np.uint8).ctypes.data_as(_BYTES)
    if bindings.llama_state_set_data(context, pointer, size) != size:
        raise EdgeMoEError("the saved state does not fit this model and context")
