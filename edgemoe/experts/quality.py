"""What `quality=` asks for: how many of a pack's planes are used, and which are waited for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgemoe.errors import EdgeMoEError

LEVELS = (2, 3, 4, 6)
"""Levels that packs have, by index."""
EXACT = "exact"
TARGETS = {"high": 0.01, "balanced": 0.02, "fast": 0.04}
"""Expected relative squared error of a layer's experts up to which planes are waited for."""
_FIXED = re.compile(r"fixed:([0-9]+)")
_KNOWN = f"'exact', {', '.join(map(repr, TARGETS))}, 'fixed:LEVEL' or a number (a layer's relative squared error)"


@dataclass(frozen=True)
class Quality:
    """A parsed `quality=`: planes up to the level with index `top_level` exist for the engine. With a `target` above 0
    it waits for planes until the expected relative squared error of a layer is at most that; with 0 for all of them."""

    top_level: int = len(LEVELS) - 1
    target: float = 0.0


def parse_quality(quality: str | float, levels: Sequence[int]) -> Quality:
    """What `quality` means for a pack with `levels` (none: a GGUF as it is, where every target is met).

    Raises:
        EdgeMoEError: `quality` is unknown or out of range, or the model does not have the level.
    """
    if quality == EXACT:
        return Quality()
    if isinstance(quality, str) and (fixed := _FIXED.fullmatch(quality)):
        return Quality(top_level=_level_index(quality, int(fixed[1]), levels))
    target = TARGETS.get(quality) if isinstance(quality, str) else None
    if target is None:
        target = _number(quality)
    return Quality(target=target)


def _number(quality: str | float) -> float:
    try:
        value = math.nan if isinstance(quality, bool) else float(quality)
    except (TypeError, ValueError):
        raise EdgeMoEError(f"quality={quality!r} is unknown: use {_KNOWN}") from None
    if not 0 < value < 1:
        raise EdgeMoEError(f"quality={quality!r} is out of range: a target is above 0 and below 1 (or 'exact')")
    return value


def _level_index(quality: str, level: int, levels: Sequence[int]) -> int:
    if not levels:
        raise EdgeMoEError(
            f"quality={quality!r} needs a pack: this file has its experts in one precision (see edgemoe pack)"
        )
    if level not in levels:
        raise EdgeMoEError(f"quality={quality!r}: this pack has the levels {', '.join(map(str, levels))}")
    return LEVELS.index(level)
