"""Saved states: the context (KV cache, recurrent state) as bytes, and what Python knows of it."""

from __future__ import annotations

import ctypes
import time
import weakref
from typing import Any

import llama_cpp
import llama_cpp.llama_cpp as bindings
import numpy as np

from edgemoe.errors import EdgeMoEError

_BYTES = ctypes.POINTER(ctypes.c_uint8)


def save_state(llm: Any, loans: Any) -> llama_cpp.LlamaState:
    """A copy of the state of `llm`, whose bytes are on loan from the expert cache for as long as it lives."""
    size = int(bindings.llama_state_get_size(llm.ctx))  # at the most
    name = f"state {time.monotonic_ns()}"
    loans.lend(name, 2 * size)  # one copy more while it is made
    data = _read_state(llm.ctx, size)
    state = llama_cpp.LlamaState(
        input_ids=llm.input_ids.copy(),
        scores=llm._scores.copy(),
        n_tokens=llm.n_tokens,
        llama_state=data,
        llama_state_size=len(data),
        seed=llm._seed,
    )
    loans.lend(name, len(data))
    weakref.finalize(state, loans.give_back, name)
    return state


def load_state(llm: Any, state: llama_cpp.LlamaState) -> None:
    """Restores what `save_state` returned.

    Raises:
        EdgeMoEError: the state is damaged, or of another model or context.
    """
    _write_state(llm.ctx, state.llama_state, state.llama_state_size)
    llm.scores.restore(state.scores if isinstance(state.scores, dict) else {})
    llm.input_ids = state.input_ids.copy()
    llm.n_tokens = state.n_tokens
    llm._requires_eval = True
    llm._seed = state.seed


def _read_state(context: Any, size: int) -> bytes:
    buffer = np.empty(size, dtype=np.uint8)
    written = bindings.llama_state_get_data(context, buffer.ctypes.data_as(_BYTES), size)
    return buffer[:written].tobytes()


def _write_state(context: Any, state: bytes, size: int) -> None:
    """`size` is what it was when the state was read."""
    if len(state) != size:
        raise EdgeMoEError("the saved state is damaged: its length is not the one it names")
    pointer = np.frombuffer(state, dtype=np.uint8).ctypes.data_as(_BYTES)
    if bindings.llama_state_set_data(context, pointer, size) != size:
        raise EdgeMoEError("the saved state does not fit this model and context")
