"""Weights from planes, in numpy: the formulas of docs/format.md, for unpacking and for checking other implementations.

Codes are [rows, columns], a plane is the bytes of one level of one matrix.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgemoe.packs.layout import LAST_LEVEL, LEVELS, ExpertTensor, Format, code_bits, plane_parts

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Planes = Mapping[int, Bytes]
"""Planes of one matrix by level: that of the level wanted and those of all below it."""
Tables = Mapping[int, npt.NDArray[np.int8]]
"""Rows of each level: [256, 4], [256, 8], [256, 16] and, for level 6, [256, 16]."""

# Units of the midpoints, in codes.
_MIDPOINT_UNIT = {Format.Q4_K: 1 / 8, Format.Q5_K: 1 / 4, Format.Q6_K: 1 / 2}


def unpack_codes(part: Bytes, bits: int, rows: int, columns: int) -> Bytes:
    """The codes in the codes part of a plane: [rows, columns], of 2 bits or of 1."""
    blocks = -(-columns // 64)
    if bits == 2:
        shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
        codes = part.reshape(rows, blocks, 1, 16) >> shifts & 3
    else:
        shifts = np.array([[0, 4], [1, 5], [2, 6], [3, 7]], np.uint8)[:, :, None]
        codes = part.reshape(rows, blocks, 1, 1, 8) >> shifts & 1
    return codes.reshape(rows, 64 * blocks)[:, :columns]


def codes_at(tensor: ExpertTensor, planes: Planes, level: int) -> Bytes:
    """The codes of `level`: [rows, columns]. A level at which the format has no plane has those of the level below."""
    codes = np.zeros((tensor.rows, tensor.columns), np.uint8)
    for step in LEVELS[: LEVELS.index(level) + 1]:
        if bits := code_bits(tensor.format, step):
            part = planes[step][plane_parts(tensor, step, biased=False).codes]
            codes <<= bits
            codes |= unpack_codes(part, bits, tensor.rows, tensor.columns)
    return codes


def dequantize(tensor: ExpertTensor, planes: Planes, level: int, tables: Tables | None) -> Floats:
    """The weights of one matrix at `level`: float32 [rows, columns]. `tables` are needed for T16 alone."""
    if tensor.format is Format.T16:
        assert tables is not None
        return _t16(tensor, planes, level, tables)
    values = _slice_values(tensor, planes, level)
    scales, offsets = _slice_scales(tensor, planes[2])
    width = 16 if tensor.format is Format.Q6_K else 32
    grouped = values.reshape(tensor.rows, -1, width)
    return (scales[:, :, None] * grouped - offsets[:, :, None]).reshape(tensor.rows, tensor.columns)


def row_biases(tensor: ExpertTensor, plane: Bytes, level: int) -> Floats:
    """The row biases in a T16 plane of one of the pack's bias levels: float32 [rows]."""
    part = plane[plane_parts(tensor, level, biased=True).biases]
    return part.view("<f2").astype(np.float32)


def _t16(tensor: ExpertTensor, planes: Planes, level: int, tables: Tables) -> Floats:
    parts = plane_parts(tensor, 2, biased=False)
    selectors = planes[2][parts.selectors].reshape(tensor.rows, -1)[:, : tensor.columns // 16]
    scales = planes[2][parts.scales].view("<f2").astype(np.float32).reshape(tensor.rows, -1)
    rows = np.repeat(selectors, 16, axis=1)
    codes = codes_at(tensor, planes, level)
    if level == 6:
        fine = tables[6][rows, _level_6_index(codes)].astype(np.float32)
        values = tables[4][rows, codes >> 2] + fine / 16
    else:
        values = tables[level][rows, codes].astype(np.float32)
    return values * np.repeat(scales, 256, axis=1)[:, : tensor.columns]


def _level_6_index(codes: Bytes) -> Bytes:
    """4 c2 + c6 of the 6-bit code 16 c2 + 8 b3 + 4 b4 + c6."""
    return (codes >> 4 << 2) | (codes & 3)


def _slice_values(tensor: ExpertTensor, planes: Planes, level: int) -> Floats:
    """What stands for the source's codes at `level`."""
    codes = codes_at(tensor, planes, level)
    if level >= LAST_LEVEL[tensor.format]:
        return codes.astype(np.float32)
    midpoints = planes[2][plane_parts(tensor, 2, biased=False).midpoints]
    of_level = midpoints[16 * LEVELS.index(level) :][:16].astype(np.float32)
    return (of_level * _MIDPOINT_UNIT[tensor.format])[codes]


def _slice_scales(tensor: ExpertTensor, plane: Bytes) -> tuple[Floats, Floats]:
    """Factor and what is subtracted, for each 32 weights of Q4_K and Q5_K, for each 16 of Q6_K: [rows, groups]."""
    raw = plane[plane_parts(tensor, 2, biased=False).scales].reshape(tensor.rows, tensor.superblocks, -1)
    if tensor.format is Format.Q6_K:
        d = raw[:, :, 16:].copy().view("<f2").astype(np.float32)
        factors = d * raw[:, :, :16].view(np.int8).astype(np.float32)
        factors = factors.reshape(tensor.rows, -1)
        return factors, factors * np.float32(32)
    d = raw[:, :, 0:2].copy().view("<f2").astype(np.float32)
    dmin = raw[:, :, 2:4].copy().view("<f2").astype(np.float32)
    scale, minimum = _six_bits(raw[:, :, 4:16])
    return (d * scale).reshape(tensor.rows, -1), (dmin * minimum).reshape(tensor.rows, -1)


def _six_bits(packed: Bytes) -> tuple[Bytes, Bytes]:
    """The 8 scales and 8 minimums of 6 bits that a k-quant superblock has in 12 bytes."""
    low, middle, high = packed[..., 0:4], packed[..., 4:8], packed[..., 8:12]
    scale = np.concatenate([low & 63, (high & 15) | (low >> 6 << 4)], axis=-1)
    minimum = np.concatenate([middle & 63, (high >> 4) | (middle >> 6 << 4)], axis=-1)
    return scale, minimum


def assemble(tensor: ExpertTensor, planes: Planes) -> Bytes:
    """Slices with all planes: the source's own blocks, [rows, bytes of a row]."""
    codes = codes_at(tensor, planes, LAST_LEVEL[tensor.format])
    codes = codes.reshape(tensor.rows, tensor.superblocks, 256)
    scales = planes[2][plane_parts(tensor, 2, biased=False).scales].reshape(tensor.rows, tensor.superblocks, -1)
    if tensor.format is Format.Q6_K:
        blocks = [*_q6_codes(codes), scales]
    elif tensor.format is Format.Q5_K:
        blocks = [scales, _fifth_bits(codes), _nibbles(codes & 15)]
    else:
        blocks = [scales, _nibbles(codes)]
    return np.concatenate(blocks, axis=-1).reshape(tensor.rows, -1)


def _nibbles(codes: Bytes) -> Bytes:
    """Of each 64 codes the first 32 in the low nibbles, the others in the high ones: [rows, superblocks, 128]."""
    halves = codes.reshape(*codes.shape[:2], 4, 2, 32)
    return (halves[..., 0, :] | halves[..., 1, :] << 4).reshape(*codes.shape[:2], 128)


def _fifth_bits(codes: Bytes) -> Bytes:
    """Bit i of byte l is the fifth bit of weight 32 i + l: [rows, superblocks, 32]."""
    bits = (codes >> 4).reshape(*codes.shape[:2], 8, 32)
    return np.bitwise_or.reduce(bits << np.arange(8, dtype=np.uint8)[:, None], axis=2)


def _q6_codes(codes: Bytes) -> tuple[Bytes, Bytes]:
    """ggml's `ql` (low 4 bits of two codes a byte) and `qh` (high 2 bits of four codes a byte)."""
    quarters = codes.reshape(*codes.shape[:2], 2, 4, 32)
    low = quarters & 15
    ql = low[..., 0:2, :] | low[..., 2:4, :] << 4
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    qh = np.bitwise_or.reduce(quarters >> 4 << shifts, axis=3)
    return ql.reshape(*codes.shape[:2], 128), qh.reshape(*codes.shape[:2], 64)
