"""Gains: the weights of a level are as large as the source's on the whole."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

import plane_reader as reader
from edgemoe.packs import codec
from expert_weights import KINDS, importance_of, weights_of
from models.quantize import quantize


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gains_keep_the_size_of_the_weights(kind: str, weighted: bool) -> None:
    """Against the source, a level's weights are neither too large nor too small on the whole."""
    rows, columns = 40, 512
    h = importance_of(columns) if weighted else np.ones(columns)
    blocks = quantize(weights_of(rows, columns), KINDS[kind])
    source = gguf.quants.dequantize(blocks, KINDS[kind]).astype(np.float64)
    sliced = codec.slice_matrix(int(KINDS[kind]), blocks, rows, columns, h if weighted else None)
    for level in (2, 3, 4):
        read = reader.read_slice(sliced.planes, kind, rows, columns, level)
        assert (read * source * h).sum() == pytest.approx((source**2 * h).sum(), rel=1e-5)
    gains = sliced.planes[2][-16:].view(np.float32)
    assert gains[0] > gains[1] > 1 == gains[3]
    assert (gains[2] == 1) == (kind == "q4_k")


@pytest.mark.parametrize("kind", KINDS)
def test_slices_of_zeros(kind: str) -> None:
    blocks = np.zeros(3 * gguf.GGML_QUANT_SIZES[KINDS[kind]][1], np.uint8)
    sliced = codec.slice_matrix(int(KINDS[kind]), blocks, 3, 256)
    assert sliced.planes[2][-16:].view(np.float32).tolist() == [1, 1, 1, 1]
    for level in (2, 3, 4):
        assert sliced.errors[level] == (0, 0)
        assert not reader.read_slice(sliced.planes, kind, 3, 256, level).any()


@pytest.mark.parametrize("feedback", [False, True])
def test_t16_of_zeros(feedback: bool) -> None:
    hessian = codec.Hessian(np.eye(256)) if feedback else None
    means = np.ones(256)
    encoded = codec.encode_matrix(
        np.zeros((3, 256)), codec.default_tables(), hessian=hessian, mean_input=means, bias_levels=(2,)
    )
    for level in (2, 3, 4):
        read, biases = reader.read_t16(encoded.planes, codec.default_tables().arrays(), 3, 256, level, (2,))
        assert encoded.errors[level] == (0, 0)
        assert not read.any()
        assert not biases.any()
    assert encoded.planes[2][-80:-64].view(np.float32).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("known", ["nothing", "importance", "hessian"])
def test_t16_gains_keep_the_size(known: str) -> None:
    """Of the weights or, where errors are fed back, of the products: neither is too large or too small on the whole."""
    rows, columns, damping = 40, 512, 0.05
    random = np.random.default_rng(6)
    inputs = random.normal(0, 1, (900, 48)) @ random.normal(0, 1, (48, columns)) + random.normal(0, 1, (900, columns))
    hessian = inputs.T @ inputs / len(inputs)
    weighted = {
        "nothing": np.eye(columns),
        "importance": np.diag(importance_of(columns)),
        "hessian": hessian + damping * np.diagonal(hessian).mean() * np.eye(columns),
    }[known]
    arguments = {"importance": importance_of(columns)} if known == "importance" else {}
    if known == "hessian":
        arguments = {"hessian": codec.Hessian(hessian, damping)}
    weights = weights_of(rows, columns).astype(np.float64)
    tables = codec.default_tables()
    encoded = codec.encode_matrix(weights, tables, levels=codec.LEVELS, **arguments)
    for level in codec.LEVELS:
        read, _ = reader.read_t16(encoded.planes, tables.arrays(), rows, columns, level)
        along, square = (np.einsum("rc,cd,rd->", weights, weighted, other) for other in (read, weights))
        assert along == pytest.approx(square, rel=2e-5)
    gains = encoded.planes[2][-16:].view(np.float32)
    assert gains[0] > gains[1] > max(gains[2], 1)
