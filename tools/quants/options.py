"""Options that several tools take."""

from __future__ import annotations

from typing import Any

import click

from edgemoe.experts.quality import LEVELS
from edgemoe.packs.layout import are_levels


class Levels(click.ParamType):
    """Levels of a pack, as in 2,3,4."""

    name = "levels"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        levels = tuple(int(part) if part.isdecimal() else 0 for part in value.split(","))
        if not are_levels(levels):
            self.fail(f"{value!r} is not the beginning of {','.join(map(str, LEVELS))}", param, ctx)
        return levels
