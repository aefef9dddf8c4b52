"""What `quality=` asks for: how many of a pack's planes are used, and which are waited for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgemoe.errors import EdgeMoEError

LEVELS = (2, 3, 4, 6)
"""Levels that packs have, by index."""
EXACT = "exact"
TARGETS = {"high": 0.01, "balanced": 0.02, "fast": 0.04}
"""Expected relative squared error of a layer's experts up to which planes are waited for."""
HEAD_BITS = {"high": 1.0, "balanced": 0.67, "fast": 0.37}
"""Where a pack has heads, these serve in the place of targets: mean bits per weight above base planes alone."""
_FIXED = re.compile(r"fixed:([0-9]+)")
_BITS = re.compile(r"bits:([0-9]{1,2}(\.[0-9]{1,6})?)")
_NAMES = ", ".join(map(repr, (EXACT, *TARGETS, "fixed:LEVEL", "bits:MEAN")))
KNOWN = f"{_NAMES} or a number (a layer's relative squared error)"
"""What there is, for messages."""


@dataclass(frozen=True)
class Quality:
    """A parsed `quality=`: planes up to the level with index `top_level` exist for the engine. With a `target` above 0
    it waits for planes until the expected relative squared error of a layer is at most that; with 0 for all of them.
    With `bits` above 0 the pack's heads choose planes, for that mean of bits per weight; a `target` beside it is what
    holds for a sequence of its own."""

    top_level: int = len(LEVELS) - 1
    target: float = 0.0
    bits: float = 0.0


def parse_quality(quality: str | float, levels: Sequence[int]) -> Quality:
    """What `quality` means for a pack with `levels` (none: a GGUF as it is, where every target is met).

    Raises:
        EdgeMoEError: `quality` is unknown or out of range, or the model does not have the level.
    """
    if quality == EXACT:
        return Quality()
    if isinstance(quality, str) and (fixed := _FIXED.fullmatch(quality)):
        return Quality(top_level=_level_index(quality, int(fixed[1]), levels))
    if isinstance(quality, str) and (mean := _BITS.fullmatch(quality)):
        return Quality(bits=_mean_bits(quality, float(mean[1]), levels))
    target = TARGETS.get(quality) if isinstance(quality, str) else None
    if target is None:
        target = _number(quality)
    return Quality(target=target)


def _number(quality: str | float) -> float:
    try:
        value = math.nan if isinstance(quality, bool) else float(quality)
    except (TypeError, ValueError):
        raise EdgeMoEError(f"quality={quality!r} is unknown: use {KNOWN}") from None
    if not 0 < value < 1:
        raise EdgeMoEError(f"quality={quality!r} is out of range: a target is above 0 and below 1 (or 'exact')")
    return value


def _mean_bits(quality: str, bits: float, levels: Sequence[int]) -> float:
    if not levels:
        raise EdgeMoEError(f"quality={quality!r} needs a pack: this file has its experts in one precision")
    if bits == 0:
        raise EdgeMoEError(f"quality={quality!r} is out of range: experts have bits")
    return bits


def _level_index(quality: str, level: int, levels: Sequence[int]) -> int:
    if not levels:
        raise EdgeMoEError(
            f"quality={quality!r} needs a pack: this file has its experts in one precision (see edgemoe pack)"
        )
    if level not in levels:
        raise EdgeMoEError(f"quality={quality!r}: this pack has the levels {', '.join(map(str, levels))}")
    return LEVELS.index(level)


class QualityControl:
    """The quality of a loaded model: what holds for every request, and what one request or sequence asks for."""

    def __init__(self, engine: Any, levels: Sequence[int], quality: str | float) -> None:
        """`engine` was made with `quality`, of a pack with `levels` (none: a GGUF as it is)."""
        self._engine = engine
        self._levels = list(levels)
        self._loaded = parse_quality(quality, levels)
        self._default = quality
        self._bits_range = engine.head_bits()
        self._in_use = replace(self._loaded, bits=0.0)
        self.use(None)

    @property
    def default(self) -> str | float:
        """What requests get that ask for nothing."""
        return self._default

    def check(self, quality: str | float) -> Quality:
        """The parsed `quality`. Raises EdgeMoEError as parse_quality does, and above what the model was loaded with."""
        asked = parse_quality(quality, self._levels)
        if asked.top_level > self._loaded.top_level and not asked.target:
            top = LEVELS[self._loaded.top_level]
            raise EdgeMoEError(f"quality={quality!r} needs planes above level {top}: load the model with them")
        if asked.bits and self._engine is not None:
            self._engine.check_bits(asked.bits)
        if quality in HEAD_BITS and self._bits_range is not None:
            least, most = self._bits_range
            asked = replace(asked, bits=min(least + HEAD_BITS[str(quality)], most))
        return asked

    def check_sequence(self, quality: str | float) -> None:
        """Raises EdgeMoEError as `check` does, and for what no single sequence can have: "fixed:LEVEL", "bits:MEAN"."""
        asked = self.check(quality)
        if asked.top_level != Quality().top_level or (asked.bits and not asked.target):
            raise EdgeMoEError(f"quality={quality!r} is of a whole model: a sequence may ask for 'exact' or a target")

    def set_default(self, quality: str | float) -> None:
        """Changes what holds for every request. Raises as `check` does."""
        self.check(quality)
        self._default = quality
        self.use(None)

    def use(self, quality: str | float | None) -> None:
        """The quality of the batches that follow; None: the default."""
        self._apply(self.check(self._default if quality is None else quality))

    def use_for(self, qualities: Sequence[str | float | None], single: bool) -> None:
        """Of the next batch, each sequence's own quality, in the batch's order; `single`: each has one token in it.

        Where a sequence has several, the strictest of all holds for the whole batch.
        """
        asked = [self.check(self._default if quality is None else quality) for quality in qualities]
        if len(set(asked)) == 1:
            self._apply(asked[0])
            return
        self._apply(Quality(target=min(quality.target for quality in asked)))
        if single:
            self._engine.set_token_targets([quality.target for quality in asked])
            self._in_use = Quality(target=-1.0)  # nothing that `use` could find in place

    def set_levels(self, group: int, levels: Sequence[int]) -> None:
        """Each expert of a group at a level of its own; none: at that of the quality. Raises EdgeMoEError."""
        known = self._levels[: self._loaded.top_level + 1]
        if unknown := sorted(set(levels) - set(known)):
            levels_known = ", ".join(map(str, known)) or "none (it is no pack)"
            raise EdgeMoEError(f"level {unknown[0]} is not in use; this model has {levels_known}")
        self._engine.set_levels(group, [known.index(level) + 1 for level in levels])

    def end(self) -> None:
        """Leaves the engine alone from now on: it is going away."""
        self._engine = None

    def _apply(self, asked: Quality) -> None:
        if asked == self._in_use or self._engine is None:
            return
        self._engine.set_token_targets([])
        if asked.bits:
            self._engine.set_bits(asked.bits)
        else:
            self._engine.set_target(asked.target)
        if asked.top_level < self._loaded.top_level:
            for group, (_, experts, _) in enumerate(self._engine.groups()):
                self._engine.set_levels(group, [asked.top_level + 1] * experts)
        self._in_use = asked
