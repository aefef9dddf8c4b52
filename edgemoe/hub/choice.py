"""Which of a repository's files make a model, and which model to take when none is named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgemoe.errors import ModelError
from edgemoe.hub.names import nearest
from edgemoe.sizes import format_size

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=\.gguf$)", re.IGNORECASE)
_QUANT = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q[1-8]_[A-Z0-9_]+|I?Q[1-8]|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4|BF16|F16|FP16|F32|FP32))$",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
# Small enough to be fast, large enough to be good; what is further from that comes later.
_PREFERRED = (
    *("Q4_K_M", "MWQ", "UD-Q4_K_XL", "Q4_K_L", "Q4_K_XL", "Q4_K_S", "MXFP4_MOE", "MXFP4", "Q4_K", "IQ4_NL", "IQ4_XS"),
    *(
        "Q4_1",
        "Q4_0",
        "Q5_K_M",
        "Q5_K_S",
        "Q5_0",
        "Q6_K",
        "Q8_0",
        "Q3_K_L",
        "Q3_K_M",
        "Q3_K_S",
        "IQ3_M",
        "IQ3_XXS",
        "Q2_K",
    ),
    *("BF16", "F16", "F32"),
)


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository. `sha256` is None where the hub keeps no checksum of that kind."""

    name: str
    bytes: int
    sha256: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A model of a repository: one file, or shards in order. `quant` is its type as the file's name has it, or ""."""

    stem: str
    quant: str
    files: tuple[RemoteFile, ...]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def called(self) -> str:
        """The shortest that names it in its repository."""
        return self.quant or self.stem.rpartition("/")[2] + ".gguf"


def candidates(files: Sequence[RemoteFile]) -> list[Candidate]:
    """The models among `files`, the smallest first. Shards that are not complete make none."""
    groups: dict[str, list[RemoteFile]] = {}
    for file in sorted(files, key=lambda file: file.name):
        if file.name.lower().endswith(".gguf") and not _NO_MODEL.search(file.name):
            groups.setdefault(_SHARD.sub("", file.name)[: -len(".gguf")], []).append(file)
    found = [Candidate(stem, _quant(stem), tuple(group)) for stem, group in groups.items() if _complete(group)]
    return sorted(found, key=lambda candidate: candidate.bytes)


def choose(files: Sequence[RemoteFile], wanted: str | None, where: str) -> Candidate:
    """The model `wanted` (a file's name, or a type such as Q4_K_M), or else a sensible one.

    Raises:
        ModelError: when there is none; the message lists what there is.
    """
    found = candidates(files)
    if not found:
        raise ModelError(f"{where} has no GGUF model: look for a repository with GGUF in its name")
    if wanted is None:
        return min(found, key=_rank)
    matches = [candidate for candidate in found if wanted.lower() in _names(candidate)]
    if matches:
        return matches[-1]
    near = nearest(wanted, [candidate.called for candidate in found])
    hint = f"did you mean {near[0]}? " if near else ""
    raise ModelError(f"{where} has no {wanted}: {hint}there is {listing(found)}")


def listing(found: Sequence[Candidate]) -> str:
    """What there is, in one line."""
    return ", ".join(f"{candidate.called} ({format_size(candidate.bytes)})" for candidate in found)


def _names(candidate: Candidate) -> set[str]:
    """By which it may be asked for, in lower case."""
    stem = candidate.stem.lower()
    whole = {file.name.lower() for file in candidate.files} | {stem, f"{stem}.gguf"}
    return whole | {name.rpartition("/")[2] for name in whole} | ({candidate.quant.lower()} - {""})


def _rank(candidate: Candidate) -> tuple[int, int]:
    quant = candidate.quant.upper()
    place = _PREFERRED.index(quant) if quant in _PREFERRED else len(_PREFERRED)
    return place, candidate.bytes


def _quant(stem: str) -> str:
    if stem.lower().endswith(".mwq"):
        return "MWQ"  # a pack
    match = _QUANT.search(stem.rpartition("/")[2])
    if match is None:
        match = _QUANT.search(stem.rpartition("/")[0].rpartition("/")[2])  # some put each type into a folder
    return match[1].upper() if match else ""


def _complete(group: Sequence[RemoteFile]) -> bool:
    shards = [match for file in group if (match := _SHARD.search(file.name))]
    if not shards:
        return len(group) == 1
    count = int(shards[0][2])
    return len(shards) == len(group) and [int(match[1]) for match in shards] == list(range(1, count + 1))
