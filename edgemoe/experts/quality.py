"""What `quality=` asks for: how many of a pack's planes are used."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgemoe.errors import EdgeMoEError

LEVELS = (2, 3, 4, 6)
"""Levels that packs have, by index."""
EXACT = "exact"
_FIXED = re.compile(r"fixed:([0-9]+)")


def top_level(quality: str, levels: Sequence[int]) -> int:
    """The index of the highest level that `quality` uses, of a pack with `levels` (none: a GGUF as it is).

    Raises:
        EdgeMoEError: `quality` is unknown, or the model does not have the level.
    """
    if quality == EXACT:
        return len(LEVELS) - 1
    fixed = _FIXED.fullmatch(quality)
    if not fixed:
        raise EdgeMoEError(f"quality={quality!r} is unknown: use 'exact', or 'fixed:LEVEL' with a pack")
    level = int(fixed[1])
    if not levels:
        raise EdgeMoEError(
            f"quality={quality!r} needs a pack: this file has its experts in one precision (see edgemoe pack)"
        )
    if level not in levels:
        raise EdgeMoEError(f"quality={quality!r}: this pack has the levels {', '.join(map(str, levels))}")
    return LEVELS.index(level)
