"""How many planes of an expert a token uses on average, at each quality."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgemoe.experts.quality import parse_quality
from edgemoe.packs.reader import Pack

_SCALE_BITS = 0.55
"""Bits of a weight that its scales and selectors take, about."""
_NEXT_WEIGHT = 0.75
"""A token's router weights, sorted, fall by about this factor from one to the next."""


def mean_errors(path: Path) -> list[float]:
    """Relative squared error of a pack's experts at each of its levels, on average. Raises ReadError."""
    with Pack(path) as pack:
        errors = np.concatenate([pack.errors(group) for group in pack.groups])
    return [float(error) for error in errors.mean(axis=0)]


def mean_planes(quality: str, levels: Sequence[int], errors: Sequence[float] = (), used: int = 1) -> float:
    """Planes of an expert that a token uses at `quality`, of a pack with `levels`; 1 for a GGUF as it is.

    With a mean of bits: what gives it. With a target: what the engine would wait for with an empty cache
    (native/include/edgemoe/schedule/bits.h), for `used` experts of equal `errors` whose weights fall geometrically.
    """
    asked = parse_quality(quality, levels)
    most = min(asked.top_level + 1, max(1, len(levels)))
    if asked.bits:
        return float(np.interp(asked.bits - _SCALE_BITS, levels, range(1, len(levels) + 1)))
    if not asked.target or not levels:
        return float(most)
    hotness = [_NEXT_WEIGHT ** (2 * rank) for rank in range(used)]
    planes = [1] * used
    error = sum(hotness) * errors[0]
    while error > asked.target * sum(hotness):
        gains = [h * (errors[p - 1] - errors[p]) if p < most else 0.0 for h, p in zip(hotness, planes, strict=True)]
        best = max(range(used), key=gains.__getitem__)
        if gains[best] <= 0:
            break
        error -= gains[best]
        planes[best] += 1
    return sum(planes) / used
