"""A synthetic qwen3moe model as metadata and a list of tensors to stream."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType

from . import weights
from .quantize import quantize
from .shape import Shape, ggml_type
from .stream import PlannedTensor, write_gguf
from .tokenizer import Tokenizer

ARCHITECTURE = "qwen3moe"
# Distinct quantized matrices that experts are drawn from: only their bytes matter, and few are made fast.
POOL = 10
FILE_TYPES = {
    "f32": LlamaFileType.ALL_F32,
    "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
    "q4_1": LlamaFileType.MOSTLY_Q4_1,
    "q5_0": LlamaFileType.MOSTLY_Q5_0,
    "q5_1": LlamaFileType.MOSTLY_Q5_1,
    "iq4_nl": LlamaFileType.MOSTLY_IQ4_NL,
    "q2_k": LlamaFileType.MOSTLY_Q2_K,
    "q3_k": LlamaFileType.MOSTLY_Q3_K_M,
    "q4_k": LlamaFileType.MOSTLY_Q4_K_M,
    "q5_k": LlamaFileType.MOSTLY_Q5_K_M,
    "q6_k": LlamaFileType.MOSTLY_Q6_K,
}


def write_model(path: Path, shape: Shape, seed: int, tokenizer: Tokenizer, report: Callable[[str, int], None]) -> None:
    """Write the model; `report` gets a tensor's name and the bytes just written."""

    def metadata(writer: GGUFWriter) -> None:
        _add_metadata(writer, shape, seed)
        tokenizer.add_to(writer)

    write_gguf(path, ARCHITECTURE, metadata, plan(shape, seed), report)


def plan(shape: Shape, seed: int) -> list[PlannedTensor]:
    """Every tensor of the model, in the file's order."""
    experts = ExpertPool(shape, seed)
    table = (shape.vocab_size, shape.hidden)
    tensors = [
        _quantized("token_embd.weight", table, shape.embedding_type, lambda: weights.embedding(shape, seed)),
        _whole("output_norm.weight", (shape.hidden,), "f32", lambda: weights.output_norm(shape)),
        _quantized("output.weight", table, shape.output_type, lambda: weights.output(shape, seed)),
    ]
    for layer in range(shape.layers):
        tensors += _attention(shape, seed, layer)
        tensors += _experts(shape, seed, layer, experts)
    return tensors


def _attention(shape: Shape, seed: int, layer: int) -> list[PlannedTensor]:
    queries, values = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    kind, block = shape.attention_type, f"blk.{layer}"

    def head_norm() -> np.ndarray:
        return np.full(shape.head_dim, weights.HEAD_NORM, np.float32)

    return [
        _whole(f"{block}.attn_norm.weight", (shape.hidden,), "f32", lambda: np.ones(shape.hidden, np.float32)),
        _whole(
            f"{block}.attn_q.weight",
            (queries, shape.hidden),
            kind,
            lambda: weights.distance_projection(shape, shape.heads),
        ),
        _whole(
            f"{block}.attn_k.weight",
            (values, shape.hidden),
            kind,
            lambda: weights.distance_projection(shape, shape.kv_heads),
        ),
        _whole(
            f"{block}.attn_v.weight", (values, shape.hidden), kind, lambda: weights.value_projection(shape, seed, layer)
        ),
        _whole(
            f"{block}.attn_output.weight",
            (shape.hidden, queries),
            kind,
            lambda: weights.attention_output(shape, seed, layer),
        ),
        _whole(f"{block}.attn_q_norm.weight", (shape.head_dim,), "f32", head_norm),
        _whole(f"{block}.attn_k_norm.weight", (shape.head_dim,), "f32", head_norm),
    ]


def _experts(shape: Shape, seed: int, layer: int, pool: "ExpertPool") -> list[PlannedTensor]:
    inward, outward = (shape.experts, shape.width, shape.hidden), (shape.experts, shape.hidden, shape.width)
    block, kind = f"blk.{layer}", ggml_type(shape.expert_type)
    return [
        _whole(f"{block}.ffn_norm.weight", (shape.hidden,), "f32", lambda: np.ones(shape.hidden, np.float32)),
        _whole(
            f"{block}.ffn_gate_inp.weight",
            (shape.experts, shape.hidden),
            "f32",
            lambda: weights.router(shape, seed, layer),
        ),
        PlannedTensor(f"{block}.ffn_gate_exps.weight", inward, kind, lambda: pool.gate(layer)),
        PlannedTensor(f"{block}.ffn_up_exps.weight", inward, kind, lambda: pool.up(layer)),
        PlannedTensor(f"{block}.ffn_down_exps.weight", outward, kind, lambda: pool.down(layer)),
    ]


class ExpertPool:
    """Experts made of three matrices of a small pool, no two of a layer alike (while there are fewer than 1000)."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self._shape = shape
        self._seed = seed
        self._matrix = cache(self._make)

    def gate(self, layer: int) -> Iterator[np.ndarray]:
        """Bytes of the layer's gate matrices, one expert at a time."""
        return (self._matrix("in", index) for index in self._members(layer)[0])

    def up(self, layer: int) -> Iterator[np.ndarray]:
        """Bytes of the layer's up matrices, one expert at a time."""
        return (self._matrix("in", index) for index in self._members(layer)[1])

    def down(self, layer: int) -> Iterator[np.ndarray]:
        """Bytes of the layer's down matrices, one expert at a time."""
        return (self._matrix("down", index) for index in self._members(layer)[2])

    def _members(self, layer: int) -> tuple[np.ndarray, ...]:
        """Pool indices (3, experts) of gate, up and down."""
        order = weights.generator(self._seed, f"members.{layer}").permutation(POOL**3)
        return np.unravel_index(np.resize(order, self._shape.experts), (POOL, POOL, POOL))

    def _make(self, kind: str, member: int) -> np.ndarray:
        matrix = weights.expert_matrix(self._shape, self._seed, kind, member)
        return quantize(matrix, ggml_type(self._shape.expert_type))


def _whole(name: str, shape: tuple[int, ...], kind: str, make: Callable[[], np.ndarray]) -> PlannedTensor:
    """A tensor made in one piece."""
    return _quantized(name, shape, kind, lambda: [make().reshape(-1, shape[-1])])


def _quantized(name: str, shape: tuple[int, ...], kind: str, make: Callable[[], Iterable[np.ndarray]]) -> PlannedTensor:
    """A tensor made in float32 chunks (rows, columns) and quantized to `kind`."""
    type_: GGMLQuantizationType = ggml_type(kind)
    return PlannedTensor(name, shape, type_, lambda: (quantize(rows, type_) for rows in make()))


def _add_metadata(writer: GGUFWriter, shape: Shape, seed: int) -> None:
    writer.add_name(f"synthetic {shape.label}")
    writer.add_description(f"Random weights with believable routing, made by tools/synthesize_moe.py with seed {seed}")
    writer.add_file_type(FILE_TYPES[shape.expert_type])
    writer.add_quantization_version(2)
    writer.add_vocab_size(shape.vocab_size)
    writer.add_context_length(shape.context_length)
    writer.add_block_count(shape.layers)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.width * shape.top_k)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.top_k)
    writer.add_expert_feed_forward_length(shape.width)
