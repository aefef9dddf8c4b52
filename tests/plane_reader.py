"""Planes as docs/format.md lays them out, read with plain numpy: the measure for what writes or computes with them."""

from __future__ import annotations

import numpy as np

SCALE_BYTES = {"q4_k": 16, "q5_k": 16, "q6_k": 18}
BITS = {"q4_k": 4, "q5_k": 5, "q6_k": 6}
UNITS = {"q4_k": 8.0, "q5_k": 4.0, "q6_k": 2.0}
LEVELS = (2, 3, 4, 6)


class Parts:
    """Takes the parts of a plane one after another, each padded to 64 with zeros."""

    def __init__(self, plane: np.ndarray) -> None:
        self._rest = np.asarray(plane, np.uint8)

    def take(self, count: int) -> np.ndarray:
        padded = -(-count // 64) * 64
        part, padding, self._rest = self._rest[:count], self._rest[count:padded], self._rest[padded:]
        assert len(part) == count
        assert len(padding) == padded - count
        assert not padding.any()
        return part

    def end(self) -> None:
        assert len(self._rest) == 0


def two_bits(part: np.ndarray, rows: int, blocks: int) -> np.ndarray:
    """Codes [rows, blocks * 64]."""
    plane = part.reshape(rows, blocks, 16)
    return np.concatenate([plane >> shift & 3 for shift in (0, 2, 4, 6)], axis=2).reshape(rows, blocks * 64)


def one_bit(part: np.ndarray, rows: int, blocks: int) -> np.ndarray:
    plane = part.reshape(rows, -1, 16)
    out = np.zeros((rows, -(-blocks // 4) * 4, 64), np.uint8)
    for block in range(out.shape[1]):
        at = block // 4 * 2 + block % 2
        if at < plane.shape[1]:
            nibbles = plane[:, at] >> block % 4 // 2 * 4
            out[:, block] = np.concatenate([nibbles >> k & 1 for k in range(4)], axis=1)
    assert not out[:, blocks:].any()
    return out[:, :blocks].reshape(rows, blocks * 64)


def code_bytes(blocks: int, wide: bool) -> int:
    return blocks * 16 if wide else blocks // 4 * 32 + min(blocks % 4, 2) * 16


def read_t16(planes, tables, rows: int, columns: int, level: int, bias_levels=()) -> tuple[np.ndarray, np.ndarray]:
    """Weights [rows, columns] at `level` and the row biases of that level."""
    blocks = -(-columns // 64)
    superblocks = -(-blocks // 4)
    biases = np.zeros(rows)
    gain = 1.0
    for at in LEVELS[: LEVELS.index(level) + 1]:
        parts = Parts(planes[at])
        wide = at in (2, 6)
        code = (two_bits if wide else one_bit)(parts.take(rows * code_bytes(blocks, wide)), rows, blocks).astype(int)
        assert not code[:, columns:].any()
        if at == 2:
            codes = code
            selectors = parts.take(rows * superblocks * 16).reshape(rows, superblocks * 16)
            assert not selectors[:, columns // 16 :].any()
            scales = parts.take(rows * superblocks * 2).view(np.float16).reshape(rows, superblocks)
            last_part = parts.take(64)
            assert not last_part[:48].any()
            gain = float(last_part[48:].view(np.float32)[LEVELS.index(level)])
        elif at == 6:
            last = code
        else:
            codes = 2 * codes + code
        if at in bias_levels:
            own = parts.take(rows * 2).view(np.float16)
            biases = own.astype(float) if at == level else biases
        parts.end()
    row = np.repeat(selectors, 16, axis=1)[:, :columns].astype(int)
    d = gain * np.repeat(scales.astype(float), 256, axis=1)[:, :columns]
    codes = codes[:, :columns]
    if level < 6:
        return d * tables[level][row, codes], biases
    return d * (tables[4][row, codes] + tables[6][row, 4 * (codes >> 2) + last[:, :columns]] / 16), biases


def read_slice(planes, kind: str, rows: int, columns: int, level: int) -> np.ndarray:
    """Weights [rows, columns] at `level` of a sliced matrix, in float32 as ggml computes them."""
    blocks, bits = columns // 64, BITS[kind]
    codes = np.zeros((rows, columns), int)
    for at in LEVELS[: LEVELS.index(level) + 1]:
        if at == 6 and bits == 4:
            continue
        parts = Parts(planes[at])
        wide = at == 2 or (at == 6 and bits == 6)
        unpack = two_bits if wide else one_bit
        code = unpack(parts.take(rows * code_bytes(blocks, wide)), rows, blocks).astype(int)
        codes = codes * (4 if wide else 2) + code
        if at == 2:
            scales = parts.take(rows * blocks // 4 * SCALE_BYTES[kind]).reshape(rows, blocks // 4, SCALE_BYTES[kind])
            last = parts.take(64).reshape(4, 16)
            midpoints, gains = last[:3], last[3].view(np.float32)
            assert gains[3] == 1
        parts.end()
    known = {2: 2, 3: 3, 4: 4, 6: bits}[level]
    number = LEVELS.index(level)
    values = codes if known >= bits else midpoints[number][codes] / UNITS[kind]
    gain = np.float32(1) if known >= bits else gains[number]
    scale, minimum = group_scales(scales, kind)
    size = columns // scale.shape[1]
    scale, minimum = (np.repeat(a, size, axis=1) for a in (scale, minimum))
    if kind == "q6_k":
        return gain * (scale * (values - 32).astype(np.float32))
    return gain * (scale * values.astype(np.float32) - minimum)


def group_scales(scales: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Scale and minimum [rows, groups] of what a sliced plane keeps of ggml's blocks."""
    rows = len(scales)
    if kind == "q6_k":
        d = np.ascontiguousarray(scales[..., 16:]).view(np.float16).astype(np.float32)
        scale = d * scales[..., :16].view(np.int8).astype(np.float32)
        return scale.reshape(rows, -1), np.zeros_like(scale).reshape(rows, -1)
    halves = np.ascontiguousarray(scales[..., :4]).view(np.float16).astype(np.float32)
    packed = scales[..., 4:]
    low, middle, high = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    factors = np.concatenate([low & 63, (high & 15) | (low >> 6 << 4)], axis=-1)
    minimums = np.concatenate([middle & 63, (high >> 4) | (middle >> 6 << 4)], axis=-1)
    return (halves[..., :1] * factors).reshape(rows, -1), (halves[..., 1:2] * minimums).reshape(rows, -1)
