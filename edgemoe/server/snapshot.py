"""The server at one moment, for /metrics and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgemoe.experts.stats import Stats
from edgemoe.server.log import Record


@dataclass(frozen=True)
class ModelState:
    """A model that is served. What only a loaded one has is None or 0 for others.

    `active` sequences are computed together, at most `parallel`; `waiting` ones have not begun. `resident_bits` has, by
    group of experts (a layer), bits per weight of each expert in memory; `full_bits` are those of a whole one.
    """

    name: str
    path: str
    quality: str | float
    loaded: bool
    parallel: int
    ctx: int | None = None
    active: int = 0
    waiting: int = 0
    idle_seconds: float | None = None
    stats: Stats | None = None
    full_bits: float | None = None
    resident_bits: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """`totals` and `recent` are those of `Log`; `in_progress` requests are admitted, at most `most`."""

    uptime: float
    in_progress: int
    most: int
    routed: bool
    models: Sequence[ModelState]
    totals: Mapping[str, int]
    cost: float
    recent: Sequence[Record]
