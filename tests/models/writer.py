"""Writes small random models that llama.cpp loads and runs."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter, quants

from . import tokenizer
from .architecture import Architecture
from .attention_models import ATTENTION_MODELS
from .blocks import Dims, Tensor
from .hybrid_models import HYBRID_MODELS
from .quantize import fit, quantize

ARCHITECTURES: dict[str, Architecture] = {**ATTENTION_MODELS, **HYBRID_MODELS}

# Real mixed files keep some matrices at higher precision, chosen by matrix and by layer.
_MIX = ("Q6_K", "Q5_K", "Q8_0")

# Experts are random arrangements of this many random rows: quantizing all of them would take most of the time.
_POOL = 1024


def write_model(
    path: str | Path,
    arch: str,
    *,
    seed: int = 0,
    expert_type: str | None = None,
    dense_type: str = "F16",
    mixed: bool = False,
    n_layer: int | None = None,
    n_embd: int = 256,
    n_ff_exp: int = 256,
    n_expert: int = 16,
    n_expert_used: int | None = None,
    split_into: int = 1,
    pooling: int | None = None,
) -> list[Path]:
    """Write a random model of an architecture of ARCHITECTURES and return its files.

    The values depend on the seed and on the tensor's name only. Rows that a type's block does not divide take the type
    that llama-quantize would use instead. `mixed` gives gate, up and down different types, which change with the layer.
    `pooling` makes it an embedding model (1: mean of tokens).
    With `split_into` greater than 1 the files are named like NAME-00001-of-0000N.gguf.
    """
    architecture = ARCHITECTURES[arch]
    dims = Dims(
        n_layer=n_layer or architecture.n_layer,
        n_embd=n_embd,
        n_ff_exp=n_ff_exp,
        n_expert=n_expert if architecture.moe else 0,
        n_expert_used=(n_expert_used or min(architecture.n_expert_used, n_expert)) if architecture.moe else 0,
        n_vocab=tokenizer.N_VOCAB,
    )
    metadata = architecture.metadata(dims) | tokenizer.metadata()
    if pooling is not None:
        metadata[f"{architecture.name}.pooling_type"] = pooling
    expert_types = (expert_type or architecture.expert_type, *(_MIX if mixed else ()))
    types = {t.name: _type_name(t, dense_type, expert_types) for t in architecture.tensors(dims)}

    paths, shards = _shards(Path(path), list(architecture.tensors(dims)), split_into)
    for number, (shard_path, shard) in enumerate(zip(paths, shards, strict=True)):
        writer = GGUFWriter(shard_path, architecture.name)
        if number == 0:
            _add_metadata(writer, metadata)
        if split_into > 1:
            writer.add_uint16("split.no", number)
            writer.add_uint16("split.count", split_into)
            writer.add_int32("split.tensors.count", len(types))
        _write_tensors(writer, shard, types, seed)
    return paths


def _type_name(tensor: Tensor, dense_type: str, expert_types: tuple[str, ...]) -> str:
    if tensor.role != "expert":
        return "F32" if tensor.role == "f32" else dense_type
    layer = int(tensor.name.split(".")[1])
    matrix = 2 if "down" in tensor.name else 1 if "_up_" in tensor.name else 0
    return expert_types[(layer + matrix) % len(expert_types)]


def _shards(path: Path, tensors: list[Tensor], count: int) -> tuple[list[Path], list[list[Tensor]]]:
    if count == 1:
        return [path], [tensors]
    bounds = np.linspace(0, len(tensors), count + 1).astype(int)
    paths = [path.with_name(f"{path.stem}-{i + 1:05d}-of-{count:05d}.gguf") for i in range(count)]
    return paths, [tensors[start:end] for start, end in zip(bounds[:-1], bounds[1:], strict=True)]


def _add_metadata(writer: GGUFWriter, metadata: dict[str, object]) -> None:
    types = {bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32}
    for key, value in metadata.items():
        if isinstance(value, (list, str)):
            writer.add_key_value(key, value, GGUFValueType.get_type(value))
        else:
            writer.add_key_value(key, value, types[type(value)])


def _write_tensors(writer: GGUFWriter, tensors: list[Tensor], types: dict[str, str], seed: int) -> None:
    layouts = [(tensor, fit(types[tensor.name], tensor.shape[0])) for tensor in tensors]
    for tensor, qtype in layouts:
        shape = quants.quant_shape_to_byte_shape(tensor.shape[::-1], qtype)
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), math.prod(shape), raw_dtype=qtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, qtype in layouts:
        writer.write_tensor_data(_data(tensor, qtype, seed))
    writer.close()


def _data(tensor: Tensor, qtype: GGMLQuantizationType, seed: int) -> np.ndarray:
    """The bytes of a tensor, one row of bytes for each row of values."""
    random = np.random.default_rng([seed, zlib.crc32(tensor.name.encode())])
    row, n_rows = tensor.shape[0], math.prod(tensor.shape[1:])
    n_drawn = min(n_rows, _POOL) if tensor.role == "expert" else n_rows
    values = random.standard_normal((n_drawn, row), dtype=np.float32)
    values *= tensor.std
    values += tensor.mean
    if tensor.name == "output.weight":
        values[-len(tokenizer.CONTROL) :] = 0  # greedy decoding never stops early
    data = quantize(values, qtype)
    if n_drawn < n_rows:
        data = data[random.integers(0, n_drawn, n_rows)]
    return data
