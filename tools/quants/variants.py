"""The files that are compared: dedicated quants, T16 packs, and slices of the quants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

import edgemoe
from edgemoe import _native, machine
from edgemoe.calibrate import Calibration
from edgemoe.cli.console import byte_progress, progress_bar, working
from edgemoe.errors import EdgeMoEError
from edgemoe.packs.layout import SLICED, bits_per_weight, plane_bytes
from edgemoe.packs.plan import Settings
from edgemoe.packs.reader import Pack
from edgemoe.packs.source import Source
from edgemoe.packs.writer import pack
from quants.dedicated import quantize_experts
from quants.work import Work, hash_files

_PACKAGE = Path(edgemoe.__file__).parent
TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS")
_SLICED = [GGMLQuantizationType(number).name for number in SLICED]


@dataclass(frozen=True)
class Row:
    """One file as it is run: a pack at one of its levels, or a GGUF (level None).

    `bits` of a weight are all that the file has of it up to this level: codes, scales, selectors, row biases. `stored`
    counts the padding of extents as well.
    """

    name: str
    path: Path
    level: int | None
    bits: float
    stored: float

    @property
    def label(self) -> str:
        return self.name if self.level is None else f"{self.name}, level {self.level}"

    @property
    def quality(self) -> str:
        return "exact" if self.level is None else f"fixed:{self.level}"


class Variants:
    """Makes the files of a comparison in a work folder, or finds them there.

    `levels` are those of T16 packs; `text` is what `source` is calibrated with; `gptq` says whether for GPTQ too.
    """

    def __init__(self, source: Path, text: str, levels: tuple[int, ...], *, gptq: bool, work: Work) -> None:
        self._source = source
        self._text = text
        self._levels = levels
        self._gptq = gptq
        self._work = work
        with Source(source) as opened:
            self._columns = {tensor.ne[0] for tensor in opened.tensors if tensor.expert}
            self._made_of = hash_files(*opened.paths, _PACKAGE / "calibrate.py") + text
        self._encoders = hash_files(*sorted((_PACKAGE / "packs").glob("*.py")), Path(_native.__file__))

    @cached_property
    def _calibration(self) -> Calibration:
        with progress_bar("calibrating") as progress:
            try:
                return Calibration(self._source, self._text, hessians=self._gptq, progress=progress)
            except MemoryError as error:
                raise EdgeMoEError(f"{error}: --no-gptq leaves GPTQ out") from error

    def fitting(self, types: list[str]) -> list[str]:
        """Types whose blocks divide the rows; in place of others llama.cpp would take another type."""
        blocks = {name: GGML_QUANT_SIZES[GGMLQuantizationType[name]][0] for name in types}
        fit = [name for name in types if all(columns % blocks[name] == 0 for columns in self._columns)]
        for name in types:
            if name not in fit:
                click.echo(f"{name} is left out: its rows are a multiple of {blocks[name]} weights long", err=True)
        return fit

    def dedicated(self, types: list[str]) -> Iterator[Row]:
        """A quant of each type."""
        for name in types:
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
            yield Row(name, self._quant(name), None, 8 * size / block, 8 * size / block)

    def t16(self) -> Iterator[Row]:
        """Packs with calibration and GPTQ, with calibration alone, and with neither."""
        if self._gptq:
            yield from self._pack("T16, GPTQ", self._source, self._levels, calibrated=True, gptq=True)
        yield from self._pack("T16, calibrated", self._source, self._levels, calibrated=True)
        yield from self._pack("T16", self._source, self._levels, calibrated=False)

    def slices(self, types: list[str]) -> Iterator[Row]:
        """Packs of those quants that can be sliced, whose codes below the last level depend on the calibration."""
        for row in self.dedicated([name for name in types if name in _SLICED]):
            yield from self._pack(f"slices of {row.name}", row.path, None, calibrated=True)

    def _quant(self, name: str) -> Path:
        def make(path: Path) -> None:
            calibration = self._calibration
            with working(f"quantizing to {name}"):
                quantize_experts(self._source, path, name, calibration, machine.processors())

        return self._work.file(f"{name}.gguf", self._made_of, make)

    def _pack(
        self, name: str, source: Path, levels: tuple[int, ...] | None, *, calibrated: bool, gptq: bool = False
    ) -> Iterator[Row]:
        def make(path: Path) -> None:
            calibration = self._calibration if calibrated else None
            settings = Settings(levels, requantize=levels is not None, gptq=gptq, calibration=calibration)
            with byte_progress(name) as progress:
                pack(source, path, settings, overwrite=True, progress=progress)

        made_of = f"{self._made_of}{self._encoders}{levels}"
        path = self._work.file(f"{name.replace(', ', '-').replace(' ', '-')}.mwq.gguf", made_of, make)
        with Pack(path) as opened:
            stored = bits_per_weight(opened.groups, opened.levels)
            for level in opened.levels:
                yield Row(name, path, level, _bits(opened, level), stored[level])


def _bits(opened: Pack, level: int) -> float:
    """Bits of a weight at `level`, without what pads extents."""
    planes = sum(
        8 * group.experts * plane_bytes(tensor, below, biased=below in group.bias_levels)
        for group in opened.groups
        for tensor in group.tensors
        for below in opened.levels
        if below <= level
    )
    return planes / sum(group.experts * group.weights for group in opened.groups)
