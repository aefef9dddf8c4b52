"""LoRA adapters: llama.cpp checks little of what they hold, and computes with shapes that do not fit."""

from __future__ import annotations

import os
from typing import Any

from edgemoe.errors import ModelError
from edgemoe.packs.summary import open_model

_A, _B = ".lora_a", ".lora_b"


def check_adapter(path: str | os.PathLike[str], model: Any) -> int:
    """Checks the adapter at `path` against the opened `model`; returns its bytes.

    A pair of tensors X.lora_a [n_in, rank] and X.lora_b [rank, n_out] adapts tensor X [n_in, n_out]; for a stack of
    experts all three have the same number of experts as their third dimension.

    Raises:
        ModelError, ReadError: it is no adapter, damaged, or made for another model.
    """
    adapter = open_model(path)
    base = {tensor.name: tensor.shape for tensor in model.tensors}
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for tensor in adapter.tensors:
        for suffix in (_A, _B):
            if tensor.name.endswith(suffix):
                pairs.setdefault(tensor.name.removesuffix(suffix), {})[suffix] = tensor.shape
    if not pairs:
        raise ModelError(f"{os.fspath(path)} is no LoRA adapter: it has no tensors that end in {_A} and {_B}")
    for name, pair in pairs.items():
        if name in base and name != "token_embd.weight":
            _check_pair(os.fspath(path), name, base[name], pair)
    return sum(tensor.bytes for tensor in adapter.tensors)


def _check_pair(path: str, name: str, shape: tuple[int, ...], pair: dict[str, tuple[int, ...]]) -> None:
    if len(pair) != 2:
        raise ModelError(f"{path} has only {next(iter(pair))} of the pair for {name}")
    a, b = pair[_A], pair[_B]
    fits = a[0] == shape[0] and b[1] == shape[1] and a[1] == b[0] and a[2:] == shape[2:] and b[2:] == shape[2:]
    if not fits:
        raise ModelError(f"{path} was made for another model: {a} and {b} do not adapt {name} of shape {shape}")
