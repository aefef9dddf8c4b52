"""Where everything lies in a pack, as docs/format.md has it: planes in extents, extents in the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from edgemoe import _native
from edgemoe.experts.quality import LEVELS
from edgemoe.packs.header import Entry, align

VERSION = 1
KEYS = "edgemoe.mwq."
"""What all metadata of packs begins with."""
HEAD_RANK = KEYS + "head_rank"
ALIGNMENT = 4096
TABLE_LENGTHS = {2: 4, 3: 8, 4: 16, 6: 16}
"""Entries of one row of the table of each level."""
CHECKSUMS = "mwq.xxh3"
LEVEL_PRICES = "mwq.prices"
_PART = 64
F32, I8, I64 = 0, 24, 27  # ggml's numbers of these types
_EXPERT = re.compile(r"(blk\.[0-9]{1,6})\.[A-Za-z0-9_]*?([A-Za-z0-9]*exps)\.weight")
# What is needed first comes first.
_ORDER = ("gate_up", "gate", "up", "down")


class Format(IntEnum):
    """How the planes of a tensor are made."""

    T16 = 0
    Q4_K = 1
    Q5_K = 2
    Q6_K = 3


SLICED = {12: Format.Q4_K, 13: Format.Q5_K, 14: Format.Q6_K}
"""Formats of ggml's types that are cut without loss."""
LAST_LEVEL = {Format.Q4_K: 4, Format.Q5_K: 6, Format.Q6_K: 6}
"""The level at which slices are the source's blocks."""


@dataclass(frozen=True)
class ExpertTensor:
    """A stack of expert matrices of the source: `experts` of `rows` rows, `columns` weights each."""

    name: str
    format: Format
    type: int
    """ggml's number of its type in the source."""
    columns: int
    rows: int
    experts: int

    @property
    def blocks(self) -> int:
        """Blocks of 64 weights in a row."""
        return -(-self.columns // 64)

    @property
    def superblocks(self) -> int:
        """Superblocks of up to 4 blocks in a row."""
        return -(-self.blocks // 4)


def plane_bytes(tensor: ExpertTensor, level: int, *, biased: bool) -> int:
    """Bytes of the plane of `level` of one matrix of `tensor`, 0 where its format has none.

    `biased`: T16 planes of that level carry row biases.
    """
    return _native.plane_bytes(int(tensor.format), LEVELS.index(level), tensor.rows, tensor.columns, biased)


@dataclass(frozen=True)
class Group:
    """Tensors of one layer that are routed by the same ids, in the order in which an extent holds them."""

    name: str
    tensors: tuple[ExpertTensor, ...]
    bias_levels: tuple[int, ...] = ()

    @property
    def experts(self) -> int:
        return self.tensors[0].experts

    def plane_offsets(self, level: int) -> list[int]:
        """Where the plane of each tensor begins in an extent of `level`, and after them the extent's bytes.

        The last is 0 where no tensor has a plane of that level.
        """
        offsets = [0]
        for tensor in self.tensors:
            size = plane_bytes(tensor, level, biased=level in self.bias_levels)
            offsets.append(align(offsets[-1] + size, _PART))
        offsets[-1] = align(offsets[-1], ALIGNMENT)
        return offsets

    def extent(self, level: int) -> int:
        """Bytes of one expert's extent of `level`."""
        return self.plane_offsets(level)[-1]

    def tensor_name(self, what: int | str) -> str:
        """The pack's tensor with the extents of a level, or with "eps", "xxh3", "head.in" or "head.out"."""
        return f"{self.name}.mwq.{what}"

    @property
    def weights(self) -> int:
        """Weights of one expert."""
        return sum(tensor.rows * tensor.columns for tensor in self.tensors)


def group_of(name: str) -> str | None:
    """The group of a tensor by its name: blk.3.ffn_gate_exps.weight is of blk.3.exps; None if it is no expert's."""
    match = _EXPERT.fullmatch(name)
    return f"{match[1]}.{match[2]}" if match else None


def make_groups(tensors: Iterable[ExpertTensor], bias_levels: tuple[int, ...] = ()) -> list[Group]:
    """Groups in the order of layers. The order within a group is that of use: gate, up, down."""
    groups: dict[str, list[ExpertTensor]] = {}
    for tensor in tensors:
        groups.setdefault(group_of(tensor.name) or "", []).append(tensor)
    ordered = sorted(groups, key=lambda name: (int(name.split(".")[1]), name))
    return [Group(name, tuple(sorted(groups[name], key=_rank)), bias_levels) for name in ordered]


def _rank(tensor: ExpertTensor) -> tuple[int, str]:
    kind = re.sub(r"^.*ffn_|_[a-z]*exps\.weight$", "", tensor.name)
    return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), tensor.name)


def pack_entries(
    groups: Sequence[Group], levels: Sequence[int], dense: Sequence[Entry], heads: tuple[int, int] | None = None
) -> list[Entry]:
    """The tensors of a pack in file order, without offsets.

    What is read at once lies together: the dense part, then the small tensors, then extents, layer by layer. `heads`
    are the rank of the heads and the number of prices, where the pack has them.
    """
    small = []
    if any(tensor.format is Format.T16 for group in groups for tensor in group.tensors):
        small = [
            Entry(f"mwq.t16.{level}", (TABLE_LENGTHS[level], 256), I8, TABLE_LENGTHS[level] * 256) for level in levels
        ]
    extents = []
    for group in groups:
        shape = (len(levels), group.experts)
        small.append(Entry(group.tensor_name("eps"), shape, F32, 4 * shape[0] * shape[1]))
        small.append(Entry(group.tensor_name("xxh3"), shape, I64, 8 * shape[0] * shape[1]))
        if heads:
            inward, outward = (group.tensors[0].columns, heads[0]), (heads[0] + 1, group.experts)
            small.append(Entry(group.tensor_name("head.in"), inward, F32, 4 * inward[0] * inward[1]))
            small.append(Entry(group.tensor_name("head.out"), outward, F32, 4 * outward[0] * outward[1]))
        for level in levels:
            if size := group.extent(level):
                name = group.tensor_name(level)
                extents.append(Entry(name, (size, group.experts), I8, size * group.experts))
    if heads:
        small.append(Entry(LEVEL_PRICES, (heads[1],), F32, 4 * heads[1]))
    checked = 1 + len(dense) + len(small)
    return [*dense, *small, Entry(CHECKSUMS, (checked,), I64, 8 * checked), *extents]


def is_extents(name: str) -> bool:
    """Whether a pack's tensor of this name holds extents."""
    return bool(re.fullmatch(r"blk\.[0-9]+\.[A-Za-z0-9]*exps\.mwq\.[0-9]", name))


def is_table(name: str) -> bool:
    """Whether a pack's tensor of this name says something about its experts: scales, errors, checksums."""
    return (name.startswith("mwq.") or ".mwq." in name) and not is_extents(name)


def bits_per_weight(groups: Iterable[Group], levels: Sequence[int]) -> dict[int, float]:
    """Bits that a weight of an expert takes when all planes up to each level are there, padding included."""
    groups = list(groups)
    weights = sum(group.weights * group.experts for group in groups)
    total, found = 0, {}
    for level in levels:
        total += sum(group.extent(level) * group.experts for group in groups)
        found[level] = 8 * total / weights
    return found


def are_levels(levels: Sequence[int]) -> bool:
    """Whether a pack may have these levels: each needs all below it, so none is left out."""
    return bool(levels) and tuple(levels) == LEVELS[: len(levels)]
