"""What a pack costs and loses at each level, layer by layer."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgemoe.errors import EdgeMoEError, WriteError
from edgemoe.packs.layout import Group, bits_per_weight
from edgemoe.packs.reader import Pack

SUFFIXES = (".json", ".md")


@dataclass(frozen=True)
class Level:
    """One level of a group or of the whole pack.

    `bits_per_weight` counts all planes up to this level, padding included. `error` is the mean over experts of the
    relative squared error, `worst` the largest of them. `bytes` are those of this level's planes alone.
    """

    level: int
    bytes: int
    bits_per_weight: float
    error: float
    worst: float


@dataclass(frozen=True)
class GroupReport:
    """Experts of one layer. `formats` has the format and source type of each tensor."""

    group: str
    experts: int
    formats: dict[str, str]
    levels: list[Level]


@dataclass(frozen=True)
class Report:
    """Of a pack: `levels` over all experts, `groups` layer by layer."""

    source: str
    source_xxh3: str
    levels: list[Level]
    groups: list[GroupReport]


def make_report(pack: Pack) -> Report:
    """The report of an opened pack. Raises ReadError."""
    errors = {group.name: pack.errors(group) for group in pack.groups}
    groups = [
        GroupReport(group.name, group.experts, _formats(group), _levels(pack, [group], errors[group.name]))
        for group in pack.groups
    ]
    everything = np.concatenate(list(errors.values()))
    return Report(pack.source_name, pack.source_hash, _levels(pack, pack.groups, everything), groups)


def _levels(pack: Pack, groups: Iterable[Group], errors: np.ndarray) -> list[Level]:
    groups = list(groups)
    bits = bits_per_weight(groups, pack.levels)
    return [
        Level(
            level=level,
            bytes=sum(group.extent(level) * group.experts for group in groups),
            bits_per_weight=bits[level],
            error=float(errors[:, number].mean()),
            worst=float(errors[:, number].max()),
        )
        for number, level in enumerate(pack.levels)
    ]


def _formats(group: Group) -> dict[str, str]:
    from edgemoe.packs.dense import type_name

    return {t.name: f"{'T16' if t.format == 0 else 'slices'} of {type_name(t.type)}" for t in group.tensors}


def check_report_path(path: Path) -> None:
    """Raises EdgeMoEError when the suffix is not one of SUFFIXES, WriteError when there can be no such file."""
    if path.suffix not in SUFFIXES:
        raise EdgeMoEError(f"{path} is neither a .json nor a .md file: a report is one of these")
    if path.is_dir():
        raise WriteError(f"{path} is a folder: give the name of a file in it")
    if not path.parent.is_dir():
        raise WriteError(f"{path} cannot be written: there is no folder {path.parent}")
    written = path if path.exists() else path.parent
    if not os.access(written, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise WriteError(f"{path} cannot be written: no permission")


def write_report(report: Report, path: Path) -> None:
    """Writes JSON or Markdown, by the suffix. Raises EdgeMoEError and WriteError."""
    check_report_path(path)
    text = json.dumps(dataclasses.asdict(report), indent=2) + "\n" if path.suffix == ".json" else markdown(report)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror}") from error


def markdown(report: Report) -> str:
    """The report as a page with one table for the pack and one for its layers."""
    lines = [f"# Pack of {report.source}", "", f"Source: XXH3-128 {report.source_xxh3}", ""]
    lines += ["| level | bits per weight | relative error | worst expert |", "|---|---|---|---|"]
    lines += [f"| {at.level} | {at.bits_per_weight:.4f} | {at.error:.3g} | {at.worst:.3g} |" for at in report.levels]
    head = "".join(f" level {at.level} |" for at in report.levels)
    lines += ["", "Relative error of the experts of each layer, mean and worst:", "", f"| group | formats |{head}"]
    lines += ["|---" * (2 + len(report.levels)) + "|"]
    for group in report.groups:
        cells = "".join(f" {at.error:.3g}, {at.worst:.3g} |" for at in group.levels)
        lines.append(f"| {group.group} | {', '.join(sorted(set(group.formats.values())))} |{cells}")
    return "\n".join(lines) + "\n"
