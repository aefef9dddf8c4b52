"""One expert of a group, from the source's bytes to the extents of a pack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgemoe.packs import codec
from edgemoe.packs.dense import dequantize
from edgemoe.packs.layout import SLICED, ExpertTensor, Format, Group, plane_bytes
from edgemoe.packs.plan import Settings
from edgemoe.packs.planes import Bytes, Floats

_SMALLEST = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class EncodedExpert:
    """`extents` by level, for the levels that the group has; `errors` float32 [levels]: relative errors."""

    extents: dict[int, Bytes]
    errors: Floats


class Encoder:
    """Encodes experts with the settings of one pack. Any number of threads may use it."""

    def __init__(self, levels: Sequence[int], settings: Settings, tables: codec.Tables) -> None:
        self._levels = tuple(levels)
        self._settings = settings
        self._tables = tables

    def encode(self, group: Group, expert: int, raw: Sequence[Bytes]) -> EncodedExpert:
        """`raw` has the source's bytes of each matrix of the group, uint8 [rows, bytes of a row]."""
        lost = np.zeros(len(self._levels))
        whole = 0.0
        planes = []
        for tensor, data in zip(group.tensors, raw, strict=True):
            encoded = self._matrix(tensor, expert, data)
            planes.append(encoded.planes)
            lost += [error for error, _ in self._errors(encoded.errors)]
            whole += encoded.errors[2][1]
        extents = {level: _extent(group, level, planes) for level in self._levels if group.extent(level)}
        # An expert of zeros loses nothing.
        return EncodedExpert(extents, (lost / max(whole, _SMALLEST)).astype(np.float32))

    def _matrix(self, tensor: ExpertTensor, expert: int, data: Bytes) -> codec.EncodedMatrix:
        known = self._settings.calibration
        importance = known.importance(tensor.name, expert) if known else None
        if tensor.format is not Format.T16:
            assert tensor.type in SLICED
            return codec.slice_matrix(
                tensor.type, data, rows=tensor.rows, columns=tensor.columns, importance=importance, threads=1
            )
        return codec.encode_matrix(
            dequantize(data, tensor.type),
            self._tables,
            importance=importance,
            mean_input=known.mean_input(tensor.name, expert) if known else None,
            hessian=known.hessian(tensor.name, expert) if known and self._settings.gptq else None,
            levels=self._levels,
            bias_levels=self._settings.bias_levels,
            threads=1,
        )

    def _errors(self, errors: dict[int, tuple[float, float]]) -> list[tuple[float, float]]:
        """Of each level of the pack; where the matrix has no plane of a level, what the level below has."""
        found: list[tuple[float, float]] = []
        for level in self._levels:
            found.append(errors.get(level, found[-1] if found else (0.0, 0.0)))
        return found


def _extent(group: Group, level: int, planes: Sequence[dict[int, Bytes]]) -> Bytes:
    offsets = group.plane_offsets(level)
    extent = np.zeros(offsets[-1], np.uint8)
    for tensor, matrix, offset in zip(group.tensors, planes, offsets, strict=False):
        size = plane_bytes(tensor, level, biased=level in group.bias_levels)
        if size:
            plane = matrix[level]
            assert plane.size == size, f"{tensor.name}: a plane of level {level} has {plane.size} bytes, not {size}"
            extent[offset : offset + size] = plane
    return extent


def table_rows(tables: codec.Tables, levels: Sequence[int]) -> dict[int, npt.NDArray[np.int8]]:
    """The tables that a pack of these levels holds, by level: int8 [256, entries]."""
    arrays = tables.arrays()
    return {level: arrays[level] for level in levels}
