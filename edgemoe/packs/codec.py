"""Expert matrices to planes and back to errors: the face of native/src/codec. docs/format.md says what planes hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edgemoe import _native, machine
from edgemoe.errors import EdgeMoEError, ModelError
from edgemoe.experts.quality import LEVELS
from edgemoe.packs.factor import inverse_factor
from edgemoe.packs.layout import SLICED

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

LEVEL_WEIGHTS: Mapping[int, float] = {2: 0.2, 3: 0.3, 4: 0.5}
"""How much the squared error of a level counts when one choice of codes decides all of them."""

_SUPERBLOCK = 256
_ROWS = 256
_DAMPING = 0.05


@dataclass(frozen=True)
class EncodedMatrix:
    """One matrix as planes. `errors` are (sum (W - Wq)^2 h, sum W^2 h); both are keyed by level."""

    planes: dict[int, ByteArray]
    errors: dict[int, tuple[float, float]]


SlicedMatrix = EncodedMatrix


@dataclass(frozen=True, eq=False)
class Hessian:
    """What error feedback needs to know of a matrix's inputs. Matrices with the same input share one.

    Args:
        matrix: sum (or mean) of x x^T over the inputs, [columns, columns].
        damping: added to its diagonal, as a share of its mean.

    Raises:
        EdgeMoEError: it is not square or, from `factor`, not finite or not positive.
    """

    matrix: npt.NDArray[np.floating]
    damping: float = _DAMPING

    def __post_init__(self) -> None:
        shape = self.matrix.shape
        if len(shape) != 2 or shape[0] != shape[1]:
            raise EdgeMoEError(f"the Hessian has the shape {shape}; it has to be square")

    @cached_property
    def factor(self) -> FloatArray:
        """Upper triangular U with U^T U = (H + damping mean(diag H) I)^-1, float32 [columns, columns]."""
        if not np.isfinite(self.matrix).all():
            raise EdgeMoEError("the Hessian has values that are not finite")
        mean = float(np.diagonal(self.matrix).mean(dtype=np.double))
        if mean < 0 or not self.damping > 0:
            raise EdgeMoEError(
                f"the mean of the Hessian's diagonal is {mean}, damping {self.damping}: both must be positive"
            )
        damped = self.matrix.astype(np.double)
        damped[np.diag_indices_from(damped)] += self.damping * mean or 1.0
        try:
            return np.ascontiguousarray(inverse_factor(damped), np.float32)
        except np.linalg.LinAlgError:
            raise EdgeMoEError("the Hessian is not positive: more damping may help") from None


@dataclass(frozen=True, eq=False)
class Tables:
    """The codebooks of T16, int8 between -63 and 63, a row for each selector: the tensors `mwq.t16.2` and so on."""

    level2: npt.NDArray[np.int8]
    """[256, 4]"""
    level3: npt.NDArray[np.int8]
    """[256, 8]"""
    level4: npt.NDArray[np.int8]
    """[256, 16]"""
    level6: npt.NDArray[np.int8]
    """[256, 16], corrections of level 4 in sixteenths."""

    def __post_init__(self) -> None:
        for name, width in zip(("level2", "level3", "level4", "level6"), (4, 8, 16, 16), strict=True):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != np.int8 or array.shape != (_ROWS, width):
                found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                raise EdgeMoEError(f"{name} of the tables is {found}; it has to be int8 ({_ROWS}, {width})")
            largest = int(np.abs(array.astype(np.int16)).max())
            if largest > 63:
                raise EdgeMoEError(f"{name} of the tables has entries up to {largest}; they have to be at most 63")

    def arrays(self) -> dict[int, npt.NDArray[np.int8]]:
        """By level."""
        return {2: self.level2, 3: self.level3, 4: self.level4, 6: self.level6}

    def to_bytes(self) -> bytes:
        return b"".join(array.tobytes() for array in self.arrays().values())

    @classmethod
    def from_bytes(cls, data: bytes) -> Tables:
        """Raises ModelError when `data` is not what `to_bytes` gives."""
        ends = np.cumsum([_ROWS * 4, _ROWS * 8, _ROWS * 16, _ROWS * 16])
        if len(data) != ends[-1]:
            raise ModelError(f"T16 tables are {ends[-1]} bytes, not {len(data)}")
        parts = np.split(np.frombuffer(data, np.int8), ends[:-1])
        return cls(*(part.reshape(_ROWS, -1) for part in parts))


def default_tables() -> Tables:
    """The tables that edgemoe ships, learned by tools/learn_tables.py."""
    return Tables.from_bytes(_native.default_t16())


def slice_matrix(
    ggml_type: int,
    blocks: bytes | bytearray | memoryview | ByteArray,
    rows: int,
    columns: int,
    importance: npt.ArrayLike | None = None,
    threads: int | None = None,
    planes: Mapping[int, ByteArray] | None = None,
) -> SlicedMatrix:
    """Cuts a matrix of Q4_K (12), Q5_K (13) or Q6_K (14) blocks by the significance of its bits.

    Args:
        blocks: the tensor's own bytes, `rows` rows of `columns` / 256 blocks.
        importance: second moment of each column's input, [columns]; 1 without.
        planes: where to write the plane of each level of the type; fresh memory without.

    Raises:
        EdgeMoEError: another type, or sizes that do not fit.
        ModelError: a scale that is not finite: the source is damaged.
    """
    if ggml_type not in SLICED:
        raise EdgeMoEError(f"type {ggml_type} cannot be sliced: only Q4_K (12), Q5_K (13) and Q6_K (14) can")
    if isinstance(blocks, np.ndarray):
        data = np.ascontiguousarray(blocks).reshape(-1).view(np.uint8)
    else:
        data = np.frombuffer(blocks, np.uint8)
    matrix = (SLICED[ggml_type], data, rows, columns, _row(importance), _threads(threads))
    if planes is None:
        return SlicedMatrix(*_native.slice_blocks(*matrix))
    return SlicedMatrix(dict(planes), _native.slice_blocks_into(*matrix, list(planes.values())))


def encode_matrix(
    weights: npt.ArrayLike,
    tables: Tables,
    *,
    importance: npt.ArrayLike | None = None,
    mean_input: npt.ArrayLike | None = None,
    hessian: Hessian | None = None,
    levels: Sequence[int] = (2, 3, 4),
    bias_levels: Iterable[int] = (),
    weights_of_levels: Mapping[int, float] = LEVEL_WEIGHTS,
    threads: int | None = None,
) -> EncodedMatrix:
    """Encodes a matrix as T16. The bytes depend neither on the number of threads nor on the machine.

    Args:
        weights: [rows, columns], columns a multiple of 32.
        importance: second moment of each column's input, [columns]. Without, the Hessian's diagonal; without that, 1.
        mean_input: mean of each column's input, [columns]; without, row biases are 0.
        hessian: of the inputs. With it, columns are encoded in order and later ones make good what earlier ones lose
            (nested GPTQ).
        levels: the first ones of 2, 3, 4, 6.
        bias_levels: levels that get row biases, sum over columns of (W - Wq) times the mean input.
        weights_of_levels: how much the squared error of levels 2, 3 and 4 counts in the choice of codes.

    Raises:
        EdgeMoEError: a value that is not finite or too large, sizes or levels that do not fit.
    """
    levels = tuple(levels)
    if levels != LEVELS[: len(levels)] or not levels:
        raise EdgeMoEError(f"levels are {levels}; they have to be the first ones of {LEVELS}")
    biased = set(bias_levels)
    if not biased <= set(levels):
        raise EdgeMoEError(f"bias_levels are {sorted(biased)}, but the levels are {levels}")
    matrix = np.ascontiguousarray(weights, np.float32)
    if matrix.ndim != 2:
        raise EdgeMoEError(f"weights have the shape {matrix.shape}; a matrix has rows and columns")
    if hessian is not None:
        if len(hessian.matrix) != matrix.shape[1]:
            raise EdgeMoEError(f"the Hessian has the shape {hessian.matrix.shape} for {matrix.shape[1]} columns")
        if importance is None:
            importance = np.diagonal(hessian.matrix)
    planes, errors = _native.encode_t16(
        matrix,
        tables.to_bytes(),
        importance=_row(importance),
        mean_input=_row(mean_input),
        feedback=hessian.factor if hessian else None,
        levels=len(levels),
        biased_levels=sum(1 << LEVELS.index(level) for level in biased),
        level_weights=_level_weights(weights_of_levels, levels),
        threads=_threads(threads),
    )
    return EncodedMatrix(planes, errors)


def learn_tables(
    samples: Iterable[npt.ArrayLike | tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    weights_of_levels: Mapping[int, float] = LEVEL_WEIGHTS,
    iterations: int = 30,
    seed: int = 1,
    threads: int | None = None,
) -> Tables:
    """Learns tables from matrices [rows, columns], each alone or with the importance of its columns.

    A few million weights do. Matrices count in proportion to how many weights they have, whatever the size of these.
    Deterministic: the same samples and seed give the same tables.

    Raises:
        EdgeMoEError: no samples, or a value that is not finite.
    """
    pieces = [_as_superblocks(*sample) if isinstance(sample, tuple) else _as_superblocks(sample) for sample in samples]
    if not pieces:
        raise EdgeMoEError("tables are learned from at least one matrix of weights")
    return Tables.from_bytes(
        _native.learn_t16(
            np.concatenate([weights for weights, _ in pieces]),
            np.concatenate([importance for _, importance in pieces]),
            level_weights=_level_weights(weights_of_levels, LEVELS),
            iterations=iterations,
            seed=seed,
            threads=_threads(threads),
        )
    )


def _as_superblocks(weights: npt.ArrayLike, importance: npt.ArrayLike | None = None) -> tuple[FloatArray, FloatArray]:
    """[n, 256] each, scaled so that the means of W^2 h and of h are 1. What fills up a row does not count."""
    matrix = np.asarray(weights, np.float32)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise EdgeMoEError(f"a sample has the shape {matrix.shape}; a matrix has rows and columns")
    h = np.ones(matrix.shape[1], np.float32) if importance is None else _row(importance)
    if h is None or h.shape != (matrix.shape[1],):
        raise EdgeMoEError(f"the importance of a sample does not have {matrix.shape[1]} values")
    missing = -matrix.shape[1] % _SUPERBLOCK
    matrix = np.pad(matrix, ((0, 0), (0, missing)))
    h = np.pad(h / max(float(h.mean()), 1e-30), (0, missing))
    size = math.sqrt(float((matrix.astype(np.float64) ** 2 * h).mean())) or 1.0
    every = np.broadcast_to(h, matrix.shape)
    return (matrix / np.float32(size)).reshape(-1, _SUPERBLOCK), every.reshape(-1, _SUPERBLOCK).astype(np.float32)


def _level_weights(weights: Mapping[int, float], levels: Sequence[int]) -> list[float]:
    unknown = set(weights) - {2, 3, 4}
    if unknown:
        raise EdgeMoEError(f"weights_of_levels has {sorted(unknown)}; codes are chosen for levels 2, 3 and 4")
    return [float(weights.get(level, 0.0)) if level in levels else 0.0 for level in (2, 3, 4)]


def _row(values: npt.ArrayLike | None) -> FloatArray | None:
    if values is None:
        return None
    row = np.ascontiguousarray(values, np.float32)
    if row.ndim != 1:
        raise EdgeMoEError(f"values of columns have the shape {row.shape}; they have to be one row")
    return row


def _threads(threads: int | None) -> int:
    return machine.processors() if threads is None else threads
