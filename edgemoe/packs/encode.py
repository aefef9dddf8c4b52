"""One expert of a group, from the source's bytes to the extents of a pack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgemoe.experts.quality import LEVELS
from edgemoe.packs import codec
from edgemoe.packs.dense import dequantize
from edgemoe.packs.layout import ExpertTensor, Format, Group, plane_bytes
from edgemoe.packs.plan import Settings
from edgemoe.packs.planes import Bytes, Floats
from edgemoe.packs.scratch import Scratch

_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class EncodedExpert:
    """`extents` by level, for the levels that the group has; `errors` float32 [levels]: relative errors.

    Extents are good until the same thread encodes the next expert.
    """

    extents: dict[int, Bytes]
    errors: Floats


class Encodes(Protocol):
    """What makes extents of experts, here or elsewhere. Several threads use it at once."""

    def encode(self, group: Group, expert: int, raw: Sequence[Bytes]) -> EncodedExpert:
        """As `Encoder.encode`."""


MakeEncoder = Callable[[Sequence[int], Settings, codec.Tables], Encodes]
"""Of the levels of a pack, its settings and tables."""


class Encoder:
    """Encodes experts with the settings of one pack. Any number of threads may use it."""

    def __init__(self, levels: Sequence[int], settings: Settings, tables: codec.Tables) -> None:
        self._levels = tuple(levels)
        self._settings = settings
        self._tables = tables
        self._scratch = Scratch()

    def encode(self, group: Group, expert: int, raw: Sequence[Bytes]) -> EncodedExpert:
        """`raw` has the source's bytes of each matrix of the group, uint8 [rows, bytes of a row]."""
        lost = np.zeros(len(self._levels))
        whole = 0.0
        offsets = {level: group.plane_offsets(level) for level in self._levels if group.extent(level)}
        extents = {level: self._scratch.array(level, ends[-1]) for level, ends in offsets.items()}
        hessians: dict[str, codec.Hessian | None] = {}
        for number, (tensor, data) in enumerate(zip(group.tensors, raw, strict=True)):
            places = {
                level: extent[offsets[level][number] : offsets[level][number + 1]] for level, extent in extents.items()
            }
            errors = self._matrix(tensor, expert, data, places, hessians)
            lost += [error for error, _ in self._errors(errors)]
            whole += errors[2][1]
        # An expert of zeros loses nothing.
        return EncodedExpert(extents, (lost / max(whole, _SMALLEST)).astype(np.float32))

    def _matrix(
        self,
        tensor: ExpertTensor,
        expert: int,
        data: Bytes,
        places: Mapping[int, Bytes],
        hessians: dict[str, codec.Hessian | None],
    ) -> Mapping[int, tuple[float, float]]:
        """Fills `places`, by level, with the planes of a matrix; returns its errors. `hessians` are those of the
        expert's inputs so far: gate and up have the same."""
        planes = self._planes(tensor, places)
        known = self._settings.calibration
        importance = known.importance(tensor.name, expert) if known else None
        if tensor.format is not Format.T16:
            shape = (tensor.rows, tensor.columns)
            return codec.slice_matrix(tensor.type, data, *shape, importance, threads=1, planes=planes).errors
        encoded = codec.encode_matrix(
            dequantize(data, tensor.type),
            self._tables,
            importance=importance,
            mean_input=known.mean_input(tensor.name, expert) if known else None,
            hessian=self._hessian(tensor.name, expert, hessians),
            levels=self._levels,
            bias_levels=self._settings.bias_levels,
            threads=1,
        )
        for level, plane in encoded.planes.items():
            planes[level][:] = plane
        return encoded.errors

    def _hessian(self, tensor: str, expert: int, hessians: dict[str, codec.Hessian | None]) -> codec.Hessian | None:
        known = self._settings.calibration
        if not known or not self._settings.gptq:
            return None
        name = known.input_of(tensor)
        if name not in hessians:
            matrix = known.hessian(tensor, expert)
            hessians[name] = None if matrix is None else codec.Hessian(matrix)
        return hessians[name]

    def _planes(self, tensor: ExpertTensor, places: Mapping[int, Bytes]) -> dict[int, Bytes]:
        """Where the planes of a matrix go: into `places`, whose ends are cleared. Slices are cut at all levels."""
        planes = {}
        for level in LEVELS:
            size = plane_bytes(tensor, level, biased=level in self._settings.bias_levels)
            if level in places:
                planes[level], padding = np.split(places[level], [size])
                padding[:] = 0
            else:
                planes[level] = self._scratch.array(("left out", level), size)
        return {level: plane for level, plane in planes.items() if plane.size}

    def _errors(self, errors: Mapping[int, tuple[float, float]]) -> list[tuple[float, float]]:
        """Of each level of the pack; where the matrix has no plane of a level, what the level below has."""
        found: list[tuple[float, float]] = []
        for level in self._levels:
            found.append(errors.get(level, found[-1] if found else (0.0, 0.0)))
        return found


def table_rows(tables: codec.Tables, levels: Sequence[int]) -> dict[int, npt.NDArray[np.int8]]:
    """The tables that a pack of these levels holds, by level: int8 [256, entries]."""
    arrays = tables.arrays()
    return {level: arrays[level] for level in levels}
