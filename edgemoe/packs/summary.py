"""What a GGUF model is made of, read from its headers alone."""

from __future__ import annotations

import math
import os
import re
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgemoe.errors import ModelError, ReadError
from edgemoe.experts import library

EMBEDDING = "token_embd.weight"
_LONGEST_KEY = 80
"""Letters of a key that an error shows."""
_FIRST_SHARD = re.compile(r"-00001-of-(\d{5})\.gguf$")
_SHOWN_SHARDS = 3


def open_model(path: str | os.PathLike[str]) -> Any:
    """The native `ModelFile` of `path`, its headers parsed and checked against the files' sizes.

    Raises:
        ModelError: when there is no such file, or it is not a usable GGUF.
        ReadError: when it cannot be read.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise ModelError(f"there is no model file {path}")
    if os.path.isdir(path):
        raise ModelError(f"{path} is a directory: give the path of a .gguf file in it")
    library.load()
    from edgemoe import _native

    try:
        return _native.ModelFile(path)
    except ReadError:
        _check_shards(path)
        raise


def _check_shards(first: str) -> None:
    """Raises ReadError when files of the model are not beside the first, which says how many there are."""
    if (named := _FIRST_SHARD.search(first)) is None:
        return
    count = int(named[1])
    others = [first.removesuffix(named[0]) + f"-{i:05d}-of-{count:05d}.gguf" for i in range(2, count + 1)]
    if missing := [other for other in others if not os.path.exists(other)]:
        names = ", ".join(map(os.path.basename, missing[:_SHOWN_SHARDS]))
        more = f" and {len(missing) - _SHOWN_SHARDS} more" if len(missing) > _SHOWN_SHARDS else ""
        raise ReadError(
            f"{first} is the first of {count} files, and {names}{more} {'is' if len(missing) == 1 else 'are'} not "
            "beside it: download all of them into one folder (edgemoe pull does) and keep their names"
        )


@dataclass(frozen=True)
class ModelSummary:
    """Sizes are in bytes. `experts` is 0 for a dense model."""

    path: Path
    paths: tuple[Path, ...]
    name: str
    architecture: str
    file_bytes: int
    layers: int
    moe_layers: int
    experts: int
    experts_used: int
    n_ctx_train: int
    heads: int
    """Of attention, in the layer that has most."""
    vocabulary: int
    embedding_tied: bool
    """The token embedding is the output matrix too."""
    dense_bytes: int
    """Everything but experts, the token embedding included."""
    embedding_bytes: int
    expert_bytes: int
    working_set_bytes: int
    """Experts that one token uses, all layers together."""
    layer_working_set_bytes: int
    """Of the largest layer."""
    dense_types: dict[str, int] = field(default_factory=dict)
    expert_types: dict[str, int] = field(default_factory=dict)


def summarize(path: str | os.PathLike[str], model: Any | None = None) -> ModelSummary:
    """Describes the model at `path` (already opened as `model`, or opened here). Raises as `open_model` does."""
    model = open_model(path) if model is None else model
    metadata = model.metadata()
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise ModelError(f"{os.fspath(path)} does not name its architecture (general.architecture): it is no model")
    number = _Numbers(os.fspath(path), architecture, metadata)
    used = number.largest("expert_used_count", 0)
    tensors = model.tensors
    dense_types: dict[str, int] = {}
    expert_types: dict[str, int] = {}
    layers: dict[str, int] = {}
    experts = 0
    for tensor in tensors:
        types = expert_types if tensor.expert else dense_types
        size = sum(tensor.plane_bytes) * tensor.shape[2] or tensor.bytes  # planes, in a pack
        types[tensor.type] = types.get(tensor.type, 0) + size
        if tensor.expert:
            layer = tensor.name.split(".")[1]
            count = tensor.shape[2]
            experts = max(experts, count)
            layers[layer] = layers.get(layer, 0) + size // count * min(used, count)
    by_name = {tensor.name: tensor for tensor in tensors}
    embedding = by_name.get(EMBEDDING)
    return ModelSummary(
        path=Path(path),
        paths=tuple(Path(p) for p in model.paths),
        name=str(metadata.get("general.name") or Path(path).stem),
        architecture=architecture,
        file_bytes=model.bytes,
        layers=number.largest("block_count", 0),
        moe_layers=len(layers),
        experts=experts,
        experts_used=used,
        n_ctx_train=number.largest("context_length", 0),
        heads=number.largest("attention.head_count", 0),
        vocabulary=embedding.shape[1] if embedding else 0,
        embedding_tied="output.weight" not in by_name,
        dense_bytes=sum(dense_types.values()),
        embedding_bytes=embedding.bytes if embedding else 0,
        expert_bytes=sum(expert_types.values()),
        working_set_bytes=sum(layers.values()),
        layer_working_set_bytes=max(layers.values(), default=0),
        dense_types=dense_types,
        expert_types=expert_types,
    )


def expert_bits(path: str | os.PathLike[str]) -> float | None:
    """Bits per weight of a whole expert, of the layer that has most; None for a dense model. Raises as `open_model`."""
    layers: dict[str, list[int]] = {}
    for tensor in open_model(path).tensors:
        if tensor.expert:
            sums = layers.setdefault(tensor.name.split(".")[1], [0, 0])
            sums[0] += 8 * (sum(tensor.plane_bytes) * tensor.shape[2] or tensor.bytes)
            sums[1] += math.prod(tensor.shape)
    return max((bits / weights for bits, weights in layers.values()), default=None)


class _Numbers:
    """Integer metadata of an architecture; per-layer arrays count with their largest element."""

    def __init__(self, path: str, architecture: str, metadata: dict[str, Any]) -> None:
        self._path = path
        self._architecture = architecture
        self._metadata = metadata

    def largest(self, key: str, default: int) -> int:
        value = self._metadata.get(f"{self._architecture}.{key}", default)
        if isinstance(value, list):
            value = max(value, default=default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            shown = f"{self._architecture}.{key}"[:_LONGEST_KEY]
            raise ModelError(f"{self._path}: {shown} is {reprlib.repr(value)}, which is no count")
        return value
