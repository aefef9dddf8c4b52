"""What a pack of a given source will hold, before anything is encoded: sizes follow from shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgemoe.errors import EdgeMoEError, ModelError
from edgemoe.experts.quality import LEVELS
from edgemoe.packs.calibration import Calibration
from edgemoe.packs.dense import DenseTensor, can_dequantize, plan_dense
from edgemoe.packs.header import Entry, Value, write_header
from edgemoe.packs.heads import PRICES, RANK, Heads
from edgemoe.packs.layout import (
    ALIGNMENT,
    HEAD_RANK,
    KEYS,
    LAST_LEVEL,
    LEVEL_PRICES,
    SLICED,
    VERSION,
    ExpertTensor,
    Format,
    Group,
    are_levels,
    make_groups,
    pack_entries,
)
from edgemoe.packs.source import Source, SourceTensor

SOURCE_HASH = KEYS + "source.xxh3"
_NO_HASH = "0" * 32
_DROPPED = {"general.alignment", "split.no", "split.count", "split.tensors.count"}
# Sources of fewer bits lose what matters when they are encoded a second time.
_LOW_BITS = 8.0


@dataclass(frozen=True)
class Settings:
    """How a pack is made.

    `levels` None means 2, 3 and 4, and 6 where the source has Q5_K or Q6_K experts, which need it to be kept whole.
    `dense` is the type that dense matrices get. `gptq` spreads the error of each column over those that follow, where
    `calibration` has Hessians. `heads` fits heads that choose levels to the pack at a path, when all else is in it.
    `threads` None means one for each core; it does not change the pack.
    """

    levels: tuple[int, ...] | None = None
    requantize: bool = False
    dense: str | None = None
    gptq: bool = True
    calibration: Calibration | None = None
    heads: Callable[[Path], Heads] | None = None
    threads: int | None = None

    @property
    def bias_levels(self) -> tuple[int, ...]:
        """Level 2 alone gains from row biases, which need mean inputs."""
        return (2,) if self.calibration else ()


@dataclass(frozen=True)
class PackPlan:
    """Everything about a pack but its data."""

    levels: tuple[int, ...]
    bias_levels: tuple[int, ...]
    groups: list[Group]
    dense: list[DenseTensor]
    header: bytes
    entries: dict[str, Entry]
    """The tensors of the pack by name, in file order."""
    places: dict[str, int]
    """Where in the file the value of each metadata key begins."""
    notes: list[str] = field(default_factory=list)

    @property
    def has_t16(self) -> bool:
        return any(tensor.format is Format.T16 for group in self.groups for tensor in group.tensors)

    @property
    def has_heads(self) -> bool:
        return LEVEL_PRICES in self.entries

    @property
    def bytes(self) -> int:
        """Of the whole pack: the last tensor is padded too."""
        last = list(self.entries.values())[-1]
        return -(-(last.offset + last.bytes) // ALIGNMENT) * ALIGNMENT


def make_plan(source: Source, settings: Settings) -> PackPlan:
    """What a pack of `source` will hold.

    Raises:
        ModelError: when the source is a pack already, has no experts, or has experts that cannot be packed.
        EdgeMoEError: when a setting cannot be followed.
    """
    if KEYS + "version" in source.keys:
        raise ModelError(f"{source.paths[0]} is a pack already: make packs of the model that it was made of")
    stacks = [tensor for tensor in source.tensors if tensor.expert]
    if not stacks:
        raise ModelError(f"{source.paths[0]} has no experts: it is a dense model, which llama.cpp runs as it is")
    experts = [_expert_tensor(source, tensor, settings.requantize) for tensor in stacks]
    levels = _levels(settings.levels, experts)
    biased = settings.bias_levels if any(tensor.format is Format.T16 for tensor in experts) else ()
    biased = tuple(level for level in biased if level in levels)
    groups = make_groups(experts, biased)
    _check_groups(source, groups)
    dense = plan_dense([tensor for tensor in source.tensors if not tensor.expert], settings.dense)
    heads = settings.heads is not None
    if heads and len(levels) == 1:
        raise EdgeMoEError("heads choose among levels: a pack of level 2 alone leaves them nothing to choose")
    plain = [tensor.entry for tensor in dense]
    entries = pack_entries(groups, levels, plain, (RANK, PRICES) if heads else None)
    metadata = _metadata(source, levels, biased, groups)
    if heads:
        metadata[HEAD_RANK] = Value.u32(RANK)
    header, placed, places = write_header(metadata, entries, ALIGNMENT)
    named = {entry.name: entry for entry in placed}
    return PackPlan(levels, biased, groups, dense, header, named, places, _notes(groups, levels, stacks))


def _expert_tensor(source: Source, tensor: SourceTensor, requantize: bool) -> ExpertTensor:
    columns, rows, experts, more = tensor.ne
    what = f"{source.paths[tensor.file]}: tensor {tensor.name}"
    if more != 1 or min(columns, rows) < 1:
        raise ModelError(f"{what} of shape {tensor.shape} is no stack of matrices")
    form = Format.T16 if requantize else SLICED.get(tensor.type, Format.T16)
    if form is Format.T16 and columns % 32:
        raise ModelError(f"{what} cannot be packed: its rows have {columns} weights, which is no multiple of 32")
    if form is Format.T16 and not can_dequantize(tensor.type):
        raise ModelError(f"{what} cannot be packed: its type {tensor.type_name} is unknown to the gguf library")
    return ExpertTensor(tensor.name, form, tensor.type, columns, rows, experts)


def _levels(wanted: tuple[int, ...] | None, experts: list[ExpertTensor]) -> tuple[int, ...]:
    if wanted is None:
        last = max((LAST_LEVEL[tensor.format] for tensor in experts if tensor.format is not Format.T16), default=4)
        return LEVELS[: LEVELS.index(last) + 1]
    if not are_levels(wanted):
        text = ",".join(map(str, wanted))
        raise EdgeMoEError(f"levels {text} do not build on each other: use 2 or 2,3 or 2,3,4 or 2,3,4,6")
    return wanted


def _check_groups(source: Source, groups: list[Group]) -> None:
    for group in groups:
        for tensor in group.tensors:
            if tensor.experts != group.experts:
                first = group.tensors[0]
                raise ModelError(
                    f"{source.paths[0]}: {tensor.name} has {tensor.experts} experts where {first.name}, routed by the "
                    f"same ids, has {first.experts}"
                )


def _metadata(
    source: Source, levels: tuple[int, ...], bias_levels: tuple[int, ...], groups: list[Group]
) -> dict[str, Value]:
    tensors = [tensor for group in groups for tensor in group.tensors]
    kept = {name: value for name, value in source.keys.items() if name not in _DROPPED}
    own: dict[str, Value] = {
        "version": Value.u32(VERSION),
        "levels": Value.numbers(levels, "u4"),
        "bias_levels": Value.numbers(bias_levels, "u4"),
        "source.name": Value.text(source.paths[0].name),
        "source.xxh3": Value.text(_NO_HASH),  # known when all of it was read
        "tensors": Value.texts([tensor.name for tensor in tensors]),
        "formats": Value.numbers([tensor.format for tensor in tensors], "u4"),
        "types": Value.numbers([tensor.type for tensor in tensors], "u4"),
        "shapes": Value.numbers([n for t in tensors for n in (t.columns, t.rows, t.experts)], "u8"),
    }
    return kept | {"general.alignment": Value.u32(ALIGNMENT)} | {KEYS + name: own[name] for name in own}


def _notes(groups: list[Group], levels: tuple[int, ...], stacks: list[SourceTensor]) -> list[str]:
    formats = {tensor.name: tensor.format for group in groups for tensor in group.tensors}
    bits: dict[str, float] = {}
    cut = set()
    for stack in stacks:
        form = formats[stack.name]
        if form is Format.T16:
            columns, rows, experts, _ = stack.ne
            bits[stack.type_name] = 8 * stack.bytes / (columns * rows * experts)
        elif levels[-1] < LAST_LEVEL[form]:
            cut.add(form.name)
    notes = [
        f"experts of {name} ({size:.2f} bits per weight) are encoded a second time: no level gives back their weights "
        f"exactly, and errors add up; a pack of the original weights (BF16, Q8_0) is better"
        for name, size in sorted(bits.items())
        if size < _LOW_BITS
    ]
    notes += [f"without level 6, experts of {name} are not kept whole" for name in sorted(cut) if levels[-1] == 4]
    if levels[-1] < 4:
        notes.append(
            f"a pack that ends at level {levels[-1]} has lost the source's last bits: it cannot be unpacked exactly"
        )
    return notes


def fingerprint(source: Source, settings: Settings, plan: PackPlan, tables: str) -> dict[str, Any]:
    """All that the bytes of a pack depend on. `tables` is a hash of the T16 tables."""
    import xxhash

    from edgemoe import __version__

    return {
        "edgemoe": __version__,
        "source": source.identity(),
        "header": xxhash.xxh3_128_hexdigest(plan.header),
        "tables": tables,
        "gptq": settings.gptq,
        "calibration": settings.calibration.fingerprint if settings.calibration else None,
    }
