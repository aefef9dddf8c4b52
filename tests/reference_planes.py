"""Planes as docs/format.md describes them, one weight at a time: shares nothing with the code that it checks."""

from __future__ import annotations

import struct

import numpy as np

Q4_K, Q5_K, Q6_K = 12, 13, 14
BLOCK_BYTES = {Q4_K: 144, Q5_K: 176, Q6_K: 210}
UNITS = {Q4_K: 8, Q5_K: 4, Q6_K: 2}
CODE_BITS = {Q4_K: 4, Q5_K: 5, Q6_K: 6}
GAINS = {2: 1.125, 3: 1.03125, 4: 0.96875, 6: 1.0078125}


def pad(data: bytes, multiple: int = 64) -> bytes:
    return data + bytes(-len(data) % multiple)


def k_quant_codes(kind: int, block: bytes) -> list[int]:
    """The 256 unsigned codes of a block, by ggml's definition of its structs."""
    if kind == Q6_K:
        low, high = block[:128], block[128:192]
        codes = []
        for weight in range(256):
            half, inside = divmod(weight, 128)
            quarter, lane = divmod(inside, 32)
            byte = low[64 * half + 32 * (quarter % 2) + lane]
            codes.append((byte >> 4 * (quarter // 2) & 15) | (high[32 * half + lane] >> 2 * quarter & 3) << 4)
        return codes
    quants = block[48:] if kind == Q5_K else block[16:]
    codes = [quants[32 * (w // 64) + w % 32] >> 4 * (w // 32 % 2) & 15 for w in range(256)]
    if kind == Q5_K:
        fifth = block[16:48]
        codes = [code | (fifth[w % 32] >> w // 32 & 1) << 4 for w, code in enumerate(codes)]
    return codes


def k_quant_scales(kind: int, block: bytes) -> bytes:
    return block[192:210] if kind == Q6_K else block[:16]


def two_bit_plane(codes: np.ndarray) -> bytes:
    """[rows, columns] of codes below 4."""
    out = bytearray()
    for row in codes.tolist():
        row += [0] * (-len(row) % 64)
        for start in range(0, len(row), 64):
            block = row[start : start + 64]
            out += bytes(block[t] | block[16 + t] << 2 | block[32 + t] << 4 | block[48 + t] << 6 for t in range(16))
    return bytes(out)


def one_bit_plane(bits: np.ndarray) -> bytes:
    """[rows, columns] of bits."""
    out = bytearray()
    for row in bits.tolist():
        row += [0] * (-len(row) % 64)
        for start in range(0, len(row), 256):
            blocks = [row[at : at + 64] for at in range(start, min(start + 256, len(row)), 64)]
            for j in range(min(2, len(blocks))):
                pair = [blocks[j], blocks[j + 2] if j + 2 < len(blocks) else [0] * 64]
                for t in range(16):
                    out.append(sum(pair[half][16 * k + t] << 4 * half + k for half in range(2) for k in range(4)))
    return bytes(out)


def gains(of: dict[int, float]) -> bytes:
    return struct.pack("<4f", *(of[level] for level in (2, 3, 4, 6)))


def slice_planes(kind: int, raw: np.ndarray) -> dict[int, bytes]:
    """Planes of a matrix of k-quant blocks, uint8 [rows, bytes of a row]; midpoints in the middle, gains as above."""
    size, bits = BLOCK_BYTES[kind], CODE_BITS[kind]
    rows = [[row[at : at + size].tobytes() for at in range(0, row.size, size)] for row in raw]
    codes = np.array([[code for block in row for code in k_quant_codes(kind, block)] for row in rows])
    scales = b"".join(k_quant_scales(kind, block) for row in rows for block in row)
    midpoints = bytearray(48)
    for number, kept in enumerate((2, 3, 4)):
        step = 1 << (bits - kept)
        for code in range(1 << kept):
            midpoints[16 * number + code] = min(127, round((code * step + (step - 1) / 2) * UNITS[kind]))
    planes = {
        2: pad(two_bit_plane(codes >> bits - 2)) + pad(scales) + bytes(midpoints) + gains(GAINS),
        3: pad(one_bit_plane(codes >> bits - 3 & 1)),
        4: pad(one_bit_plane(codes >> bits - 4 & 1)),
    }
    if kind == Q5_K:
        planes[6] = pad(one_bit_plane(codes & 1))
    elif kind == Q6_K:
        planes[6] = pad(two_bit_plane(codes & 3))
    return planes


def slice_values(kind: int, raw: np.ndarray, level: int) -> np.ndarray:
    """float64 [rows, columns]: ggml's formula with the level's midpoint in place of each code, times the gain."""
    size, bits = BLOCK_BYTES[kind], CODE_BITS[kind]
    out = []
    for row in raw:
        weights: list[float] = []
        for at in range(0, row.size, size):
            block = row[at : at + size].tobytes()
            codes = k_quant_codes(kind, block)
            gain = 1.0
            if level < 6 and level < bits:
                gain = GAINS[level]
                step = 1 << (bits - level)
                values = [
                    min(127, round((c // step * step + (step - 1) / 2) * UNITS[kind])) / UNITS[kind] for c in codes
                ]
            else:
                values = [float(c) for c in codes]
            weights += [gain * weight for weight in _scaled(kind, block, values)]
        out.append(weights)
    return np.array(out)


def _scaled(kind: int, block: bytes, values: list[float]) -> list[float]:
    if kind == Q6_K:
        *scales, d = struct.unpack("<16be", block[192:210])
        return [d * scales[w // 16] * (value - 32) for w, value in enumerate(values)]
    d, dmin = struct.unpack("<2e", block[:4])
    packed = block[4:16]
    out = []
    for w, value in enumerate(values):
        j = w // 32
        if j < 4:
            scale, minimum = packed[j] & 63, packed[j + 4] & 63
        else:
            scale = packed[j + 4] & 15 | packed[j - 4] >> 6 << 4
            minimum = packed[j + 4] >> 4 | packed[j] >> 6 << 4
        out.append(d * scale * value - dmin * minimum)
    return out


def t16_planes(
    codes: np.ndarray, selectors: np.ndarray, scales: np.ndarray, biases: dict[int, np.ndarray], levels: tuple[int, ...]
) -> dict[int, bytes]:
    """Planes from codes [rows, columns] (of 4 bits, of 6 with level 6), selectors [rows, columns / 16] and scales
    float16 [rows, superblocks]; gains as above."""
    rows, columns = codes.shape
    extra = 2 if 6 in levels else 0
    n_super = (columns + 255) // 256
    padded = np.zeros((rows, 16 * n_super), np.uint8)
    padded[:, : columns // 16] = selectors
    planes = {2: pad(two_bit_plane(codes >> 2 + extra)) + pad(padded.tobytes()) + pad(scales.astype("<f2").tobytes())}
    planes[2] += bytes(48) + gains(GAINS)
    planes[3] = pad(one_bit_plane(codes >> 1 + extra & 1))
    planes[4] = pad(one_bit_plane(codes >> extra & 1))
    if extra:
        planes[6] = pad(two_bit_plane(codes & 3))
    for level, bias in biases.items():
        planes[level] += pad(bias.astype("<f2").tobytes())
    return {level: planes[level] for level in levels}


def t16_values(
    codes: np.ndarray, selectors: np.ndarray, scales: np.ndarray, tables: dict[int, np.ndarray], level: int, last: int
) -> np.ndarray:
    """float64 [rows, columns] of the codes of level `last` seen at `level`."""
    out = np.zeros(codes.shape)
    for r, c in np.ndindex(*codes.shape):
        code = int(codes[r, c])
        code4 = code >> 2 if last == 6 else code
        s, d = selectors[r, c // 16], float(scales[r, c // 256])
        if level == 6:
            value = tables[4][s, code4] + tables[6][s, 4 * (code4 >> 2) + (code & 3)] / 16
        else:
            value = float(tables[level][s, code4 >> 4 - level])
        out[r, c] = GAINS[level] * d * value
    return out
