"""Weights that route like a trained model.

Channel 0 of the residual stream is constant. Everything that should not depend on the token reads it:
queries and keys (so that attention depends on distance alone) and the popularity of experts. The other
channels carry the token's embedding plus a mean of the recent context. All values are uniform rather
than Gaussian: sums over channels are Gaussian anyway, and uniform draws are the same on every platform.
"""

import math
import zlib
from collections.abc import Iterator

import numpy as np

from .shape import Shape

CONSTANT_CHANNEL = 0
# Its size in the embedding, where the other channels have variance 1.
CONSTANT_VALUE = 1.0

# Rotary wavelengths, in tokens, that queries and keys use. Shorter ones would single out distances,
# longer ones would spread attention over everything: with these it covers about the last five tokens.
WAVELENGTHS = (20.0, 400.0)
# Weight of the q and k norms; its square scales the attention scores.
HEAD_NORM = 0.95

# How much of the recent context attention adds to the residual. The first layer sets the mixture that
# all routers see; later layers only refresh it. More context raises what consecutive tokens share but
# lets experts be reused over long distances less (gain 3: hits at 22% fall from .78 to .73).
FIRST_CONTEXT_GAIN = 2.0
CONTEXT_GAIN = 0.1

# Standard deviation of a router logit due to the token and its context: sets how unequal the weights
# of the chosen experts are.
ROUTER_SCALE = 1.6
# Standard deviation, over experts, of the router's weight on the constant channel. Against ROUTER_SCALE
# it sets how popular the popular experts are. Global LRU hits on English, 12 layers of 128 experts, top 8,
# with 11 / 22 / 45% of the experts: .58 / .77 / .94 measured at 2.8; a simulation of attention and routers
# alone gives .55 / .74 / .92 at 2.5, .58 / .78 / .95 at 2.8 and .61 / .81 / .96 at 3.1.
POPULARITY = 2.8

# Root mean square of what all experts of all layers add up to, against 1 for the token's embedding:
# enough for the logits to depend on every expert, too little to drown what the routers read.
EXPERTS_GAIN = 0.5
# Root mean square of silu(a) * b for independent standard normal a and b.
SWIGLU_RMS = 0.597

# Standard deviation of a logit: peaked like a language model's, far from overflow.
LOGIT_SCALE = 3.0
# Value of the constant channel after the last norm, about; turns the wanted Zipf logits into weights.
LAST_CONSTANT = 0.55

ROWS_PER_CHUNK = 4096


def generator(seed: int, name: str) -> np.random.Generator:
    """Random numbers for one tensor, independent of the order in which tensors are made."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def uniform(rng: np.random.Generator, rows: int, columns: int, deviation: float) -> np.ndarray:
    """Float32 (rows, columns), mean 0, with the given standard deviation."""
    values = rng.random((rows, columns), dtype=np.float32)
    values -= np.float32(0.5)
    values *= np.float32(deviation * math.sqrt(12))
    return values


def row_chunks(rows: int) -> Iterator[tuple[int, int]]:
    """(first, count) of consecutive groups of rows."""
    for first in range(0, rows, ROWS_PER_CHUNK):
        yield first, min(ROWS_PER_CHUNK, rows - first)


def embedding(shape: Shape, seed: int) -> Iterator[np.ndarray]:
    """Token embedding in float32 chunks (rows, hidden): an unrelated direction for every token."""
    rng = generator(seed, "token_embd")
    for _, count in row_chunks(shape.vocab_size):
        values = uniform(rng, count, shape.hidden, 1.0)
        values[:, CONSTANT_CHANNEL] = CONSTANT_VALUE
        yield values


def output(shape: Shape, seed: int) -> Iterator[np.ndarray]:
    """Output matrix in float32 chunks (rows, hidden): random, with a Zipf law over token ids.

    A vocabulary lists frequent tokens first, so generated text repeats some tokens often, as text does.
    The Zipf column is as small as the others; `output_norm` enlarges the channel that it reads.
    """
    rng = generator(seed, "output")
    deviation = LOGIT_SCALE / math.sqrt(shape.hidden)
    for first, count in row_chunks(shape.vocab_size):
        values = uniform(rng, count, shape.hidden, deviation)
        values[:, CONSTANT_CHANNEL] = -deviation * np.log1p(np.arange(first, first + count))
        yield values


def output_norm(shape: Shape) -> np.ndarray:
    """Float32 (hidden): ones, and on the constant channel what turns the Zipf column into -log(id + 1)."""
    weight = np.ones(shape.hidden, np.float32)
    weight[CONSTANT_CHANNEL] = math.sqrt(shape.hidden) / (LOGIT_SCALE * LAST_CONSTANT)
    return weight


def head_vector(shape: Shape) -> np.ndarray:
    """Float32 (head_dim): 1 on the first half of every rotary pair with a wavelength in WAVELENGTHS."""
    pairs = np.arange(shape.head_dim // 2)
    wavelength = 2 * math.pi * shape.rope_base ** (2 * pairs / shape.head_dim)
    chosen = (wavelength >= WAVELENGTHS[0]) & (wavelength <= WAVELENGTHS[1])
    if not chosen.any():
        raise ValueError(
            f"head dimension {shape.head_dim} has no rotary wavelength of {WAVELENGTHS} tokens; use 32 or more"
        )
    return np.concatenate([chosen, np.zeros_like(chosen)]).astype(np.float32)


def distance_projection(shape: Shape, heads: int) -> np.ndarray:
    """Float32 (heads * head_dim, hidden): the head vector, read from the constant channel."""
    weight = np.zeros((heads * shape.head_dim, shape.hidden), np.float32)
    weight[:, CONSTANT_CHANNEL] = np.tile(head_vector(shape), heads)
    return weight


def value_projection(shape: Shape, seed: int, layer: int) -> np.ndarray:
    """Float32 (kv_heads * head_dim, hidden): random rows of length 1 that ignore the constant channel."""
    rows = shape.kv_heads * shape.head_dim
    weight = uniform(generator(seed, f"value.{layer}"), rows, shape.hidden, 1 / math.sqrt(shape.hidden))
    weight[:, CONSTANT_CHANNEL] = 0
    return weight


def attention_output(shape: Shape, seed: int, layer: int) -> np.ndarray:
    """Float32 (hidden, heads * head_dim): undoes the value projection, averaging heads that share a kv head."""
    value = value_projection(shape, seed, layer)
    rows = value.shape[0]
    sharing = shape.heads // shape.kv_heads
    gain = FIRST_CONTEXT_GAIN if layer == 0 else CONTEXT_GAIN
    value *= np.float32(gain * math.sqrt(shape.hidden / rows) / sharing)
    per_head = value.reshape(shape.kv_heads, 1, shape.head_dim, shape.hidden)
    per_head = np.broadcast_to(per_head, (shape.kv_heads, sharing, shape.head_dim, shape.hidden))
    return np.ascontiguousarray(per_head.reshape(-1, shape.hidden).T)


def router(shape: Shape, seed: int, layer: int) -> np.ndarray:
    """Float32 (experts, hidden): random directions, and a popularity for every expert."""
    rng = generator(seed, f"router.{layer}")
    weight = uniform(rng, shape.experts, shape.hidden, ROUTER_SCALE / math.sqrt(shape.hidden))
    weight[:, CONSTANT_CHANNEL] = POPULARITY / CONSTANT_VALUE * rng.standard_normal(shape.experts)
    return weight


def expert_matrix(shape: Shape, seed: int, kind: str, member: int) -> np.ndarray:
    """Float32 matrix of a pool: `in` (width, hidden) serves gate and up, `down` is (hidden, width)."""
    rng = generator(seed, f"expert.{kind}.{member}")
    if kind == "in":
        return uniform(rng, shape.width, shape.hidden, 1 / math.sqrt(shape.hidden))
    gain = EXPERTS_GAIN / math.sqrt(shape.layers)
    weight = uniform(rng, shape.hidden, shape.width, gain / (SWIGLU_RMS * math.sqrt(shape.width)))
    weight[CONSTANT_CHANNEL] = 0
    return weight
