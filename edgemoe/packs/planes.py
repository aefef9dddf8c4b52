"""Weights from planes, as docs/format.md defines them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgemoe import _native
from edgemoe.experts.quality import LEVELS
from edgemoe.packs.layout import LAST_LEVEL, TABLE_LENGTHS, ExpertTensor, plane_bytes

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Planes = Mapping[int, Bytes]
"""Planes of one matrix by level: that of the level wanted and those of all below it."""
Tables = Mapping[int, npt.NDArray[np.int8]]
"""Rows of each level: [256, 4], [256, 8], [256, 16] and, for level 6, [256, 16]."""


def dequantize(tensor: ExpertTensor, planes: Planes, level: int, tables: Tables | None) -> Floats:
    """The weights of one matrix at `level`, without row biases: float32 [rows, columns]. T16 alone needs `tables`."""
    last = min(level, LAST_LEVEL.get(tensor.format, level))
    used = [np.ascontiguousarray(planes[step]) for step in LEVELS if step <= last]
    entries = None if tables is None else _table_bytes(tables)
    return _native.dequantize_planes(
        int(tensor.format), tensor.rows, tensor.columns, used, tables=entries, biased_levels=0
    )


def gains(tensor: ExpertTensor, base: Bytes) -> Floats:
    """Of the levels 2, 3, 4 and 6, from a matrix's plane of level 2: float32 [4]."""
    end = plane_bytes(tensor, 2, biased=False)
    return base[end - 4 * len(LEVELS) : end].view("<f4")


def row_biases(tensor: ExpertTensor, plane: Bytes, level: int) -> Floats:
    """What a T16 plane with row biases adds to each row at its level: float32 [rows]."""
    start = plane_bytes(tensor, level, biased=False)
    return plane[start : start + 2 * tensor.rows].view("<f2").astype(np.float32)


def assemble(tensor: ExpertTensor, planes: Planes) -> Bytes:
    """Slices with all planes: the source's own blocks, [rows, bytes of a row]."""
    used = [np.ascontiguousarray(planes[step]) for step in LEVELS if step <= LAST_LEVEL[tensor.format]]
    return _native.assemble_planes(int(tensor.format), tensor.rows, tensor.columns, used)


def _table_bytes(tables: Tables) -> bytes:
    """Levels that a pack lacks are zeros."""
    empty = {level: np.zeros((256, width), np.int8) for level, width in TABLE_LENGTHS.items()}
    return b"".join(np.ascontiguousarray((empty | dict(tables))[level]).tobytes() for level in TABLE_LENGTHS)
