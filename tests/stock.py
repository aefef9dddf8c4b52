"""Plain llama-cpp-python, as the reference: without repacked weights, whose kernels give other bits."""

from __future__ import annotations

from typing import Any

import llama_cpp
import llama_cpp.llama_cpp as bindings
import numpy as np


def stock_llama(path: object, *, n_seq_max: int = 1, **kwargs: Any) -> llama_cpp.Llama:
    """A `llama_cpp.Llama` with use_extra_bufts=False and for `n_seq_max` sequences: its constructor has no arguments
    for them."""
    original, original_context = bindings.llama_model_default_params, bindings.llama_context_default_params

    def without_repacking() -> Any:
        params = original()
        params.use_extra_bufts = False
        return params

    def for_sequences() -> Any:
        params = original_context()
        params.n_seq_max = n_seq_max
        return params

    bindings.llama_model_default_params = without_repacking
    if n_seq_max > 1:
        bindings.llama_context_default_params = for_sequences
    try:
        return llama_cpp.Llama(str(path), verbose=False, **kwargs)
    finally:
        bindings.llama_model_default_params = original
        bindings.llama_context_default_params = original_context


def last_logits(llm: llama_cpp.Llama) -> np.ndarray:
    """Logits of the token evaluated last, float32 [n_vocab]."""
    return np.ctypeslib.as_array(llm._ctx.get_logits_ith(-1), shape=(llm.n_vocab(),)).copy()


def decode_logits(llm: llama_cpp.Llama, tokens: list[int]) -> np.ndarray:
    """Logits after each of `tokens`, evaluated one by one: float32 [len(tokens), n_vocab]."""
    llm.reset()
    rows = []
    for token in tokens:
        llm.eval([token])
        rows.append(last_logits(llm))
    return np.stack(rows)


def prompt_logits(llm: llama_cpp.Llama, tokens: list[int]) -> np.ndarray:
    """Logits after `tokens`, evaluated as one batch: float32 [n_vocab]."""
    llm.reset()
    llm.eval(tokens)
    return last_logits(llm)


def greedy(llm: llama_cpp.Llama, prompt: list[int], count: int) -> list[int]:
    """The next `count` tokens at temperature 0."""
    llm.reset()
    found = []
    for token in llm.generate(prompt, temp=0.0):
        found.append(token)
        if len(found) == count:
            break
    return found
