"""Planes: what is read of them against a reading written weight by weight, and the encoders against both."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

import reference_planes as reference
from edgemoe.packs import codec
from edgemoe.packs.layout import SLICED, ExpertTensor, Format, plane_bytes
from edgemoe.packs.planes import assemble, dequantize
from models.quantize import quantize

KINDS = [reference.Q4_K, reference.Q5_K, reference.Q6_K]
WIDTHS = [32, 64, 96, 256, 288, 1408, 2880]


def k_quant(kind: int, rows: int = 3, columns: int = 512) -> np.ndarray:
    weights = np.random.default_rng(kind).standard_normal((rows, columns), np.float32)
    return quantize(weights, GGMLQuantizationType(kind))


def sliced(kind: int, rows: int = 3, columns: int = 512) -> ExpertTensor:
    return ExpertTensor("blk.0.ffn_up_exps.weight", SLICED[kind], kind, columns, rows, 1)


def as_arrays(planes: dict[int, bytes]) -> dict[int, np.ndarray]:
    return {level: np.frombuffer(plane, np.uint8) for level, plane in planes.items()}


# Slices


@pytest.mark.parametrize("kind", KINDS)
def test_slices_are_read_as_the_format_says(kind: int) -> None:
    raw, tensor = k_quant(kind), sliced(kind)
    planes = as_arrays(reference.slice_planes(kind, raw))
    for level, plane in planes.items():
        assert plane.size == plane_bytes(tensor, level, biased=False)
    for level in (2, 3, 4, 6):
        expected = reference.slice_values(kind, raw, level)
        np.testing.assert_allclose(dequantize(tensor, planes, level, None), expected, rtol=1e-5, atol=1e-6)
    assert np.array_equal(assemble(tensor, planes), raw)


@pytest.mark.parametrize("kind", KINDS)
def test_all_planes_of_a_slice_are_ggml_weights(kind: int) -> None:
    raw, tensor = k_quant(kind), sliced(kind)
    planes = as_arrays(reference.slice_planes(kind, raw))
    assert np.array_equal(dequantize(tensor, planes, 6, None), quants.dequantize(raw, GGMLQuantizationType(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_slicer_makes_these_planes(kind: int) -> None:
    raw, tensor = k_quant(kind), sliced(kind)
    encoded = codec.slice_matrix(kind, raw, tensor.rows, tensor.columns)
    expected = reference.slice_planes(kind, raw)
    assert set(encoded.planes) == set(expected)
    for level, plane in encoded.planes.items():
        compared = plane.size - 64 if level == 2 else plane.size  # the slicer may choose better midpoints
        assert plane[:compared].tobytes() == expected[level][:compared]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_slicer_tells_its_errors(kind: int, weighted: bool) -> None:
    raw, tensor = k_quant(kind), sliced(kind)
    importance = np.random.default_rng(0).random(tensor.columns, np.float32) + 0.1 if weighted else None
    encoded = codec.slice_matrix(kind, raw, tensor.rows, tensor.columns, importance)
    weights = quants.dequantize(raw, GGMLQuantizationType(kind)).astype(np.float64)
    h = np.ones(tensor.columns) if importance is None else importance
    for level, (lost, whole) in encoded.errors.items():
        found = dequantize(tensor, encoded.planes, level, None)
        assert whole == pytest.approx((weights**2 * h).sum(), rel=1e-5)
        assert lost == pytest.approx(((weights - found) ** 2 * h).sum(), rel=1e-3, abs=1e-9)


# T16


def random_t16(columns: int, levels: tuple[int, ...]) -> tuple[dict, ...]:
    random = np.random.default_rng(columns)
    tables = {level: random.integers(-63, 64, (256, n), np.int8) for level, n in {2: 4, 3: 8, 4: 16, 6: 16}.items()}
    codes = random.integers(0, 64 if 6 in levels else 16, (3, columns), np.uint8)
    selectors = random.integers(0, 256, (3, columns // 16), np.uint8)
    scales = random.random((3, (columns + 255) // 256)).astype(np.float16)
    return codes, selectors, scales, tables


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("levels", [(2, 3, 4), (2, 3, 4, 6)])
def test_t16_is_read_as_the_format_says(columns: int, levels: tuple[int, ...]) -> None:
    codes, selectors, scales, tables = random_t16(columns, levels)
    biases = {2: np.array([1, -2, 0.5], np.float16)}
    planes = as_arrays(reference.t16_planes(codes, selectors, scales, biases, levels))
    tensor = ExpertTensor("blk.0.ffn_up_exps.weight", Format.T16, 1, columns, 3, 1)
    for level in levels:
        assert planes[level].size == plane_bytes(tensor, level, biased=level == 2)
        expected = reference.t16_values(codes, selectors, scales, tables, level, levels[-1])
        np.testing.assert_allclose(dequantize(tensor, planes, level, tables), expected, rtol=1e-6)


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_encoder_makes_planes_of_these_sizes_and_tells_its_errors(columns: int) -> None:
    levels = (2, 3, 4, 6)
    weights = np.random.default_rng(columns).standard_normal((24, columns), np.float32)
    encoded = codec.encode_matrix(weights, codec.default_tables(), levels=levels, bias_levels=(2,), threads=1)
    tensor = ExpertTensor("blk.0.ffn_up_exps.weight", Format.T16, 0, columns, 24, 1)
    tables = codec.default_tables().arrays()
    before = np.inf
    for level in levels:
        assert encoded.planes[level].size == plane_bytes(tensor, level, biased=level == 2)
        lost, whole = encoded.errors[level]
        found = dequantize(tensor, encoded.planes, level, tables)
        assert whole == pytest.approx((weights.astype(np.float64) ** 2).sum(), rel=1e-5)
        assert lost == pytest.approx(((weights - found) ** 2).sum(), rel=1e-3)
        assert lost < before
        before = lost


def test_formats_have_the_planes_that_their_types_have_bits_for() -> None:
    bits = {Format.Q4_K: [2, 1, 1, 0], Format.Q5_K: [2, 1, 1, 1]}
    for form in Format:
        tensor = ExpertTensor("blk.0.ffn_up_exps.weight", form, 0, 1024, 64, 1)
        codes = [plane_bytes(tensor, level, biased=False) * 8 // (1024 * 64) for level in (2, 3, 4, 6)]
        assert codes == bits.get(form, [2, 1, 1, 2])
