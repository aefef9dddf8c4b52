"""Slices and T16 planes against an independent reader of the format, and the quality of what is encoded."""

from __future__ import annotations

import math

import gguf
import numpy as np
import pytest

import plane_reader as reader
from edgemoe.errors import EdgeMoEError, ModelError
from edgemoe.packs import codec
from expert_weights import KINDS, importance_of, weights_of
from models.quantize import quantize

Q = gguf.GGMLQuantizationType
SHAPES = [(1, 32), (3, 96), (1, 1408), (3, 2880), (33, 256)]


def dequantize(blocks: np.ndarray, kind: Q, rows: int) -> np.ndarray:
    return gguf.quants.dequantize(blocks, kind).reshape(rows, -1)


def check_errors(errors: dict, level: int, weights: np.ndarray, read: np.ndarray, h: np.ndarray | float) -> None:
    weights = weights.astype(np.float64)
    error, total = errors[level]
    assert error == pytest.approx(float(((weights - read) ** 2 * h).sum()), rel=1e-5, abs=1e-12 * total)
    assert total == pytest.approx(float((weights**2 * h).sum()), rel=1e-5)


def relative(encoded: codec.EncodedMatrix) -> dict[int, float]:
    return {level: error / total for level, (error, total) in encoded.errors.items()}


# Slices


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 70])
@pytest.mark.parametrize("kind", KINDS)
def test_slices_hold_the_source(kind: str, rows: int, weighted: bool) -> None:
    columns = 768
    blocks = quantize(weights_of(rows, columns), KINDS[kind])
    source = dequantize(blocks, KINDS[kind], rows)
    h = importance_of(columns) if weighted else None
    sliced = codec.slice_matrix(int(KINDS[kind]), blocks, rows, columns, h, threads=2)
    levels = (2, 3, 4) if kind == "q4_k" else (2, 3, 4, 6)
    assert tuple(sliced.planes) == tuple(sliced.errors) == levels
    for level in levels:
        read = reader.read_slice(sliced.planes, kind, rows, columns, level)
        check_errors(sliced.errors, level, source, read, 1.0 if h is None else h)
    np.testing.assert_array_equal(read, source)
    assert sliced.errors[levels[-1]][0] == 0
    relative_errors = list(relative(sliced).values())
    assert relative_errors == sorted(relative_errors, reverse=True)


@pytest.mark.parametrize("kind", KINDS)
def test_slices_take_any_bytes(kind: str) -> None:
    """Codes, scales and minimums of all values, not only those that a quantizer writes."""
    size = gguf.GGML_QUANT_SIZES[KINDS[kind]][1]
    blocks = np.random.default_rng(3).integers(0, 256, (20, size), np.uint8)
    for at in (208,) if kind == "q6_k" else (0, 2):
        blocks[:, at : at + 2] = np.float16(0.01).tobytes()[0], np.float16(0.01).tobytes()[1]
    sliced = codec.slice_matrix(int(KINDS[kind]), blocks, 5, 1024)
    read = reader.read_slice(sliced.planes, kind, 5, 1024, 4 if kind == "q4_k" else 6)
    np.testing.assert_array_equal(read, dequantize(blocks.reshape(-1), KINDS[kind], 5))


@pytest.mark.parametrize("kind", KINDS)
def test_midpoints_are_the_best_values(kind: str) -> None:
    """No other value of a level's midpoints, in the units of the format, loses less before the gain."""
    rows, columns = 8, 512
    h = importance_of(columns)
    blocks = quantize(weights_of(rows, columns), KINDS[kind])
    source = dequantize(blocks, KINDS[kind], rows)
    sliced = codec.slice_matrix(int(KINDS[kind]), bytes(blocks), rows, columns, h)
    base = sliced.planes[2].copy()
    base[-16:] = np.ones(4, np.float32).view(np.uint8)

    def lost(plane: np.ndarray, level: int) -> float:
        read = reader.read_slice(sliced.planes | {2: plane}, kind, rows, columns, level)
        return float(((source - read.astype(np.float64)) ** 2 * h).sum())

    for level, first, cells in ((2, 0, 4), (3, 16, 8)):
        least = lost(base, level)
        for cell in range(cells):
            for step in (-1, 1):
                changed = base.copy()
                at = len(base) - 64 + first + cell
                changed[at] = max(0, int(changed[at]) + step)
                assert lost(changed, level) >= least * (1 - 1e-6)


def test_slices_do_not_depend_on_threads() -> None:
    blocks = quantize(weights_of(3000, 256), Q.Q4_K)
    one, four = (codec.slice_matrix(12, blocks, 3000, 256, threads=n) for n in (1, 4))
    assert one.errors == four.errors
    assert all(np.array_equal(one.planes[level], four.planes[level]) for level in (2, 3, 4))


@pytest.mark.parametrize("kind", ["q4_k", "q5_k", "q6_k"])
def test_slices_are_cut_into_given_memory(kind: str) -> None:
    blocks = quantize(weights_of(5, 512), Q[kind.upper()])
    fresh = codec.slice_matrix(int(KINDS[kind]), blocks, 5, 512)
    given = {level: np.full(plane.size, 255, np.uint8) for level, plane in fresh.planes.items()}
    assert codec.slice_matrix(int(KINDS[kind]), blocks, 5, 512, planes=given).errors == fresh.errors
    assert all(np.array_equal(given[level], plane) for level, plane in fresh.planes.items())
    with pytest.raises(EdgeMoEError, match="the plane of level 3 has 320 bytes, not 319"):
        codec.slice_matrix(int(KINDS[kind]), blocks, 5, 512, planes=given | {3: given[3][:-1]})
    with pytest.raises(EdgeMoEError, match="planes, not 1"):
        codec.slice_matrix(int(KINDS[kind]), blocks, 5, 512, planes={2: given[2]})


def test_slices_are_refused() -> None:
    blocks = np.zeros(144, np.uint8)
    with pytest.raises(EdgeMoEError, match="type 8 cannot be sliced"):
        codec.slice_matrix(8, blocks, 1, 256)
    with pytest.raises(EdgeMoEError, match="288 bytes, not 144"):
        codec.slice_matrix(12, blocks, 2, 256)
    with pytest.raises(EdgeMoEError, match="a row has 128 weights"):
        codec.slice_matrix(12, blocks[:0], 1, 128)
    with pytest.raises(EdgeMoEError, match="at least one row, not 0"):
        codec.slice_matrix(12, blocks[:0], 0, 256)
    with pytest.raises(EdgeMoEError, match="importance has 3 values"):
        codec.slice_matrix(12, blocks, 1, 256, [1, 2, 3])
    with pytest.raises(EdgeMoEError, match="importance of column 7 is nan"):
        codec.slice_matrix(12, blocks, 1, 256, np.where(np.arange(256) == 7, np.nan, 1))
    blocks[0:2] = 0xFF
    with pytest.raises(ModelError, match="row 0 of the matrix has a scale or minimum that is not finite"):
        codec.slice_matrix(12, blocks, 1, 256)


# T16


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_planes_hold_what_the_errors_say(rows: int, columns: int, weighted: bool) -> None:
    weights = weights_of(rows, columns)
    h = importance_of(columns) if weighted else None
    means = np.random.default_rng(2).normal(0, 1, columns).astype(np.float32)
    tables = codec.default_tables()
    encoded = codec.encode_matrix(
        weights, tables, importance=h, mean_input=means, levels=codec.LEVELS, bias_levels=(2, 4), threads=2
    )
    for level in codec.LEVELS:
        read, biases = reader.read_t16(encoded.planes, tables.arrays(), rows, columns, level, (2, 4))
        check_errors(encoded.errors, level, weights, read, 1.0 if h is None else h)
        if level in (2, 4):
            np.testing.assert_allclose(biases, (weights - read) @ means, rtol=2e-3, atol=1e-5)
    errors = list(relative(encoded).values())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.13


@pytest.mark.parametrize("levels", [(2,), (2, 3), (2, 3, 4), (2, 3, 4, 6)])
def test_only_the_wanted_levels_are_encoded(levels: tuple[int, ...]) -> None:
    encoded = codec.encode_matrix(weights_of(4, 512), codec.default_tables(), levels=levels)
    assert tuple(encoded.planes) == tuple(encoded.errors) == levels
    assert relative(encoded)[2] < 0.1


@pytest.mark.parametrize("feedback", [False, True])
def test_the_bytes_do_not_depend_on_threads(feedback: bool) -> None:
    weights = weights_of(70, 512)
    inputs = np.random.default_rng(5).normal(0, 1, (900, 512))
    hessian = codec.Hessian(inputs.T @ inputs) if feedback else None
    one, three = (codec.encode_matrix(weights, codec.default_tables(), hessian=hessian, threads=n) for n in (1, 3))
    assert one.errors == three.errors
    assert all(np.array_equal(one.planes[level], three.planes[level]) for level in (2, 3, 4))


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-7, 1e-3, 1.0, 1e6])
def test_weights_of_any_size(size: float) -> None:
    tables = codec.default_tables()
    weights = (weights_of(3, 320) / 0.3 * size).astype(np.float32)
    encoded = codec.encode_matrix(weights, tables, levels=codec.LEVELS)
    read, _ = reader.read_t16(encoded.planes, tables.arrays(), 3, 320, 4)
    assert np.isfinite(read).all()
    assert np.abs(weights - read).max() <= 0.1 * np.abs(weights).max() + 1e-6
    if size >= 1e-3:
        assert relative(encoded)[4] < 0.02


def test_zero_superblocks_among_others() -> None:
    tables = codec.default_tables()
    weights = weights_of(2, 768)
    weights[0, 256:512] = 0
    weights[1] = 0
    encoded = codec.encode_matrix(weights, tables)
    read, _ = reader.read_t16(encoded.planes, tables.arrays(), 2, 768, 2)
    assert not read[0, 256:512].any()
    assert not read[1].any()


def test_one_outlier_does_not_spoil_the_rest() -> None:
    weights = weights_of(1, 256)
    weights[0, 17] = 5 * np.abs(weights).max()
    tables = codec.default_tables()
    read, _ = reader.read_t16(codec.encode_matrix(weights, tables).planes, tables.arrays(), 1, 256, 4)
    rest = np.arange(256) >= 32
    assert ((weights - read)[0, rest] ** 2).sum() < 0.03 * (weights[0, rest] ** 2).sum()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_weights_that_cannot_be_held_are_refused(value: float) -> None:
    weights = weights_of(20, 96)
    weights[17, 5] = value
    with pytest.raises(EdgeMoEError, match="row 17, column 5"):
        codec.encode_matrix(weights, codec.default_tables(), threads=2)


def test_invalid_arguments_are_named() -> None:
    tables = codec.default_tables()
    weights = weights_of(2, 64)
    for arguments, message in (
        ({"levels": (2, 4)}, r"levels are \(2, 4\)"),
        ({"bias_levels": (6,)}, r"bias_levels are \[6\]"),
        ({"importance": np.ones(5)}, "importance has 5 values for 64 columns"),
        ({"importance": -np.ones(64)}, "importance of column 0 is -1"),
        ({"mean_input": np.full(64, np.inf)}, "mean input of column 0 is inf"),
        ({"hessian": codec.Hessian(np.eye(3))}, r"shape \(3, 3\) for 64 columns"),
        ({"hessian": codec.Hessian(np.full((64, 64), np.nan))}, "not finite"),
        ({"hessian": codec.Hessian(np.ones((64, 64)) - 2 * np.eye(64))}, "positive"),
        ({"weights_of_levels": {5: 1.0}}, r"weights_of_levels has \[5\]"),
        ({"weights_of_levels": {2: -1.0}}, "weight is -1"),
        ({"weights_of_levels": {6: 1.0}}, r"\[6\]"),
        ({"threads": 0}, "at least one thread, not 0"),
    ):
        with pytest.raises(EdgeMoEError, match=message):
            codec.encode_matrix(weights, tables, **arguments)
    with pytest.raises(EdgeMoEError, match="a row has 40 weights"):
        codec.encode_matrix(weights_of(2, 40), tables)
    with pytest.raises(EdgeMoEError, match=r"shape \(64,\)"):
        codec.encode_matrix(weights[0], tables)


def test_tables_are_checked() -> None:
    tables = codec.default_tables()
    again = codec.Tables.from_bytes(tables.to_bytes())
    assert all(np.array_equal(a, b) for a, b in zip(tables.arrays().values(), again.arrays().values(), strict=True))
    with pytest.raises(ModelError, match="not 7"):
        codec.Tables.from_bytes(b"1234567")
    with pytest.raises(EdgeMoEError, match=r"level2 of the tables is int8 \(256, 8\)"):
        codec.Tables(tables.level3, tables.level3, tables.level4, tables.level6)
    with pytest.raises(EdgeMoEError, match="entries up to 64"):
        codec.Tables(np.full((256, 4), 64, np.int8), tables.level3, tables.level4, tables.level6)


# Quality

# What was measured on these weights, with room for a tenth.
BOUNDS = {2: 0.0715, 3: 0.0180, 4: 0.00513, 6: 0.00052}


def test_the_errors_are_what_was_measured() -> None:
    errors = relative(codec.encode_matrix(weights_of(256, 512, seed=9), codec.default_tables(), levels=codec.LEVELS))
    assert {level: error for level, error in errors.items() if error > BOUNDS[level]} == {}


def test_no_level_is_worse_than_the_k_quant_of_its_size() -> None:
    weights = np.random.default_rng(4).normal(0, 0.02, (256, 512)).astype(np.float32)
    errors = relative(codec.encode_matrix(weights, codec.default_tables()))
    for level, kind in ((2, Q.Q2_K), (3, Q.Q3_K), (4, Q.Q4_K)):
        lost = weights - dequantize(quantize(weights, kind), kind, 256)
        assert errors[level] < float((lost.astype(np.float64) ** 2).sum() / (weights.astype(np.float64) ** 2).sum())


def test_importance_moves_the_error_to_where_it_counts_less() -> None:
    weights = weights_of(64, 512)
    h = importance_of(512)
    tables = codec.default_tables()
    aware = codec.encode_matrix(weights, tables, importance=h)
    plain, _ = reader.read_t16(codec.encode_matrix(weights, tables).planes, tables.arrays(), 64, 512, 3)
    assert aware.errors[3][0] < 0.95 * float(((weights - plain) ** 2 * h).sum())


def test_feedback_brings_products_closer() -> None:
    """For inputs that depend on one another, the error of the product X W^T falls at every level."""
    random = np.random.default_rng(6)
    inputs = random.normal(0, 1, (2000, 48)) @ random.normal(0, 1, (48, 512)) + random.normal(0, 1, (2000, 512))
    hessian = inputs.T @ inputs / len(inputs)
    weights = weights_of(64, 512)
    tables = codec.default_tables()
    lost = {}
    ways = {"plain": {"importance": np.diagonal(hessian)}, "feedback": {"hessian": codec.Hessian(hessian)}}
    for name, arguments in ways.items():
        encoded = codec.encode_matrix(weights, tables, levels=codec.LEVELS, **arguments)
        for level in codec.LEVELS:
            rest = weights - reader.read_t16(encoded.planes, tables.arrays(), 64, 512, level)[0]
            lost[name, level] = float(np.einsum("rc,cd,rd->", rest, hessian, rest))
    for level in (2, 3, 4):
        assert lost["feedback", level] < 0.7 * lost["plain", level]


# Learning


def test_tables_learned_from_a_model_suit_it() -> None:
    """Weights of an uncommon distribution: two clusters with narrow noise."""
    random = np.random.default_rng(7)
    signs = random.choice([-1.0, 1.0], (300, 512))
    weights = (signs * random.normal(1, 0.15, signs.shape)).astype(np.float32)
    own = codec.learn_tables([weights[:200], (weights[200:250], np.ones(512))], iterations=8, threads=2)
    mine, common = (relative(codec.encode_matrix(weights[250:], tables)) for tables in (own, codec.default_tables()))
    assert all(mine[level] < 0.9 * common[level] for level in (2, 3, 4))


def test_learning_is_deterministic() -> None:
    samples = [weights_of(40, 320)]
    first, second, other = (
        codec.learn_tables(samples, iterations=4, seed=seed, threads=threads)
        for seed, threads in ((1, 1), (1, 3), (2, 1))
    )
    assert first.to_bytes() == second.to_bytes() != other.to_bytes()


def test_learning_needs_usable_samples() -> None:
    with pytest.raises(EdgeMoEError, match="at least one matrix"):
        codec.learn_tables([])
    with pytest.raises(EdgeMoEError, match="not finite"):
        codec.learn_tables([np.full((4, 256), np.nan)])
    with pytest.raises(EdgeMoEError, match="does not have 256 values"):
        codec.learn_tables([(np.ones((4, 256)), np.ones(3))])
    with pytest.raises(EdgeMoEError, match="at least one iteration, not 0"):
        codec.learn_tables([np.ones((4, 256))], iterations=0)
