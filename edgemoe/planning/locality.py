"""How often the experts that a token needs are in memory, by the share of all experts that fit there."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

from edgemoe import _native
from edgemoe.errors import EdgeMoEError
from edgemoe.experts.trace import read_trace
from edgemoe.residence import HALF_LIFE

HitCurve = Callable[[float], float]
"""From the share of experts in memory to the share of uses that find theirs there."""

_POINTS = (
    (0.0, 0.0),
    (0.01, 0.11),
    (0.02, 0.20),
    (0.04, 0.34),
    (0.06, 0.435),
    (0.11, 0.595),
    (0.22, 0.792),
    (0.32, 0.892),
    (0.45, 0.955),
    (0.60, 0.985),
    (0.75, 0.996),
    (1.0, 1.0),
)
_WARMUP = 0.5
"""Share of a trace that fills the cache and is not counted."""


def default_curve(share: float) -> float:
    """The hit rate of models that route like Qwen3-30B-A3B on one text, interpolated (docs/plan.md)."""
    share = min(max(share, 0.0), 1.0)
    above = max(1, bisect_left(_POINTS, (share, 0.0)))
    (x0, y0), (x1, y1) = _POINTS[above - 1 : above + 1]
    return y0 + (y1 - y0) * (share - x0) / (x1 - x0)


def curve_of_trace(path: str | Path) -> HitCurve:
    """The hit rate that a recorded trace gives, replayed with the policy of the cache. Prompts only fill the cache.

    Raises:
        ModelError, ReadError: as `read_trace` does.
        EdgeMoEError: when the trace holds no single tokens.
    """
    trace = read_trace(path)
    experts = [count for _, count, _ in trace.groups]
    singles = [event for event in trace.events if event[1] == 1]
    if not singles:
        raise EdgeMoEError(f"{path} has no tokens that were generated: record a longer one with chat --trace")
    warmup = int(len(singles) * _WARMUP)

    def curve(share: float) -> float:
        capacity = int(min(max(share, 0.0), 1.0) * sum(experts))
        hits, misses = _native.replay(singles, experts, capacity, "decayed", HALF_LIFE, warmup)
        return hits / max(1, hits + misses)

    return curve
