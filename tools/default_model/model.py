"""The model, of llama.cpp's architecture qwen3moe, as functions on a dictionary of tensors.

Keys are embed, head, norm, and for each layer L: L.attn_norm, L.ffn_norm, L.q_norm, L.k_norm, L.q, L.k, L.v, L.o,
L.router, L.gate_up ([experts, 2 width, hidden]) and L.down ([experts, hidden, width]).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from default_model import experts
from default_model.shape import Shape

Parameters = dict[str, Tensor]
MATRICES = ("q", "k", "v", "o", "gate_up", "down")
_BLOCK = 256  # rows of queries that are multiplied at a time


def initial(shape: Shape, seed: int) -> Parameters:
    """Small random matrices; what writes into the residual stream is smaller with more layers, the head is zero."""
    generator = torch.Generator().manual_seed(seed)
    hidden, width = shape.hidden, shape.expert_width
    residual = 1 / math.sqrt(2 * shape.layers)

    def normal(*sizes: int, deviation: float = hidden**-0.5) -> Tensor:
        return torch.randn(*sizes, generator=generator) * deviation

    parameters = {
        "embed": normal(shape.vocabulary, hidden, deviation=0.5),
        "head": torch.zeros(shape.vocabulary, hidden),
        "norm": torch.ones(hidden),
    }
    rows, kv_rows = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    for layer in range(shape.layers):
        parameters |= {
            f"{layer}.attn_norm": torch.ones(hidden),
            f"{layer}.ffn_norm": torch.ones(hidden),
            f"{layer}.q_norm": torch.ones(shape.head_size),
            f"{layer}.k_norm": torch.ones(shape.head_size),
            f"{layer}.q": normal(rows, hidden),
            f"{layer}.k": normal(kv_rows, hidden),
            f"{layer}.v": normal(kv_rows, hidden),
            f"{layer}.o": normal(hidden, rows, deviation=rows**-0.5 * residual),
            f"{layer}.router": normal(shape.experts, hidden, deviation=0.02),
            f"{layer}.gate_up": normal(shape.experts, 2 * width, hidden),
            f"{layer}.down": normal(shape.experts, hidden, width, deviation=width**-0.5 * residual),
        }
    return parameters


def rms(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root mean square norm in float32."""
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weight


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """RoPE of [batch, heads, length, size] in halves (NEOX)."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


@lru_cache(maxsize=4)
def rope_tables(length: int, shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each [length, head size / 2]."""
    frequency = shape.rope_base ** (-torch.arange(0, shape.head_size, 2, device=device).float() / shape.head_size)
    angle = torch.outer(torch.arange(length, device=device).float(), frequency)
    return torch.cos(angle), torch.sin(angle)


def attend(query: Tensor, key: Tensor, value: Tensor, hidden_from: Tensor) -> Tensor:
    """Attention of [batch, heads, length, size] with fewer heads of keys, the queries that share keys as one product.

    hidden_from is [batch, length, length], true where a query must not look.
    """
    batch, heads, length, size = query.shape
    shared = key.shape[1]
    group = heads // shared
    query = query.reshape(batch, shared, group, length, size)
    out = []
    for start in range(0, length, _BLOCK):
        end = min(start + _BLOCK, length)
        rows = query[:, :, :, start:end].reshape(batch * shared, group * (end - start), size)
        keys = key[:, :, :end].reshape(batch * shared, end, size)
        scores = torch.bmm(rows, keys.transpose(1, 2)).view(batch, shared, group, end - start, end).float()
        scores = (scores * size**-0.5).masked_fill(hidden_from[:, None, None, start:end, :end], float("-inf"))
        chances = torch.softmax(scores, -1).to(value.dtype).view(batch * shared, group * (end - start), end)
        values = value[:, :, :end].reshape(batch * shared, end, size)
        out.append(torch.bmm(chances, values).view(batch, shared, group, end - start, size))
    return torch.cat(out, 3).permute(0, 3, 1, 2, 4).reshape(batch, length, heads * size)


def attention_and_router(
    x: Tensor,
    layer: tuple[Tensor, ...],
    tables: tuple[Tensor, Tensor],
    hidden_from: Tensor,
    shape: Shape,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The stream [batch, length, hidden] after attention, the experts' input, router chances, weights and choices."""
    attn_norm, q_norm, k_norm, q, k, v, o, ffn_norm, router = layer
    batch, length, _ = x.shape
    h = rms(x, attn_norm, shape.epsilon).to(dtype)

    def heads(matrix: Tensor) -> Tensor:
        return (h @ matrix.to(dtype).t()).view(batch, length, -1, shape.head_size).transpose(1, 2)

    query = rotate(rms(heads(q), q_norm, shape.epsilon), *tables).to(dtype)
    key = rotate(rms(heads(k), k_norm, shape.epsilon), *tables).to(dtype)
    x = x + attend(query, key, heads(v), hidden_from) @ o.to(dtype).t()
    h = rms(x, ffn_norm, shape.epsilon).reshape(batch * length, -1)
    chances = torch.softmax(h @ router.t(), -1)
    best, chosen = torch.topk(chances, shape.used, -1)
    return x, h.to(dtype), chances, best / best.sum(-1, keepdim=True), chosen


def summed_loss(x: Tensor, norm: Tensor, head: Tensor, targets: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
    """Cross entropy of each token, [batch * length]; 0 where the target is negative."""
    logits = (rms(x, norm, epsilon).to(dtype).reshape(-1, x.shape[-1]) @ head.to(dtype).t()).float()
    return F.cross_entropy(logits, targets.reshape(-1), ignore_index=-1, reduction="none")


ATTENTION, LOSS = attention_and_router, summed_loss


def compile_all() -> None:
    """Compiles what is elementwise around the products; a minute at the start of a run."""
    global ATTENTION, LOSS
    ATTENTION = torch.compile(attention_and_router, dynamic=False)
    LOSS = torch.compile(summed_loss, dynamic=False)
    experts.compile_activations()


def mask(numbers: Tensor) -> Tensor:
    """[batch, length, length], true where a token must not look: ahead, or into another document."""
    length = numbers.shape[1]
    ahead = torch.ones(length, length, dtype=torch.bool, device=numbers.device).triu(1)
    return ahead | (numbers[:, :, None] != numbers[:, None, :])


def trunk(
    parameters: Parameters, ids: Tensor, numbers: Tensor, shape: Shape, dtype: torch.dtype, dropout: float = 0.0
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The stream after all layers, the loss of balance, and how much each layer uses each expert."""
    batch, length = ids.shape
    tables, hidden_from = rope_tables(length, shape, ids.device), mask(numbers)
    x = F.embedding(ids, parameters["embed"])
    balance, used = torch.zeros((), device=ids.device), []
    names = ("attn_norm", "q_norm", "k_norm", "q", "k", "v", "o", "ffn_norm", "router")
    for layer in range(shape.layers):
        tensors = tuple(parameters[f"{layer}.{name}"] for name in names)
        x, h, chances, weights, chosen = ATTENTION(x, tensors, tables, hidden_from, shape, dtype)
        y = experts.Experts.apply(h, weights, parameters[f"{layer}.gate_up"], parameters[f"{layer}.down"], chosen)
        x = x + F.dropout(y, dropout).view(batch, length, -1)
        share = torch.bincount(chosen.reshape(-1), minlength=shape.experts).float() / chosen.numel()
        balance = balance + shape.experts * (share * chances.mean(0)).sum()
        used.append(share)
    return x, balance / shape.layers, used


@torch.no_grad()
def logits(parameters: Parameters, ids: list[int], shape: Shape) -> Tensor:
    """In float32, [tokens, vocabulary], of one document."""
    tokens = torch.tensor([ids])
    x, _, _ = trunk(parameters, tokens, torch.zeros_like(tokens), shape, torch.float32)
    return rms(x[0], parameters["norm"], shape.epsilon) @ parameters["head"].t()
