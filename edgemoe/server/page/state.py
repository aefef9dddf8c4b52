"""What the page draws of the engine: numbers, and never a text."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, Request
from pydantic import BaseModel, Field

from edgemoe.server.log import Record
from edgemoe.server.snapshot import ModelState, Snapshot

FRESH = 0.5
"""Seconds for which all pages share one reading."""
_RECENT = 8


class Memory(BaseModel):
    """In bytes. All but the experts are of the whole process."""

    budget: int | None
    process: int
    peak: int
    cache: int = Field(description="Room for experts.")
    experts: int = Field(description="Experts in memory.")


class Counters(BaseModel):
    """Since the model was loaded; times are in seconds."""

    prompt_tokens: int
    prompt_seconds: float
    decode_tokens: int
    decode_seconds: float
    hits: int
    misses: int
    bytes_read: int
    used_bits: int
    used_weights: int
    io_wait: float
    compute_time: float


class Layer(BaseModel):
    """Bits per weight of each expert of a layer that are in memory."""

    name: str
    bits: list[float]


class Model(BaseModel):
    """A model that is served; what only a loaded one has is null or empty for others."""

    name: str
    loaded: bool
    quality: str | float
    parallel: int
    ctx: int | None
    active: int
    waiting: int
    idle_seconds: float | None
    memory: Memory | None = None
    counters: Counters | None = None
    full_bits: float | None = Field(description="Bits per weight of an expert that is wholly in memory.")
    layers: list[Layer]


class Answered(BaseModel):
    """A request that has ended."""

    model: str
    route: str | None
    outcome: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_token: float | None = Field(description="Seconds until it came.")
    tokens_per_second: float | None
    cost: float


class EngineState(BaseModel):
    """The server at one moment."""

    uptime: float
    in_progress: int = Field(description="Requests that are answered or wait.")
    most: int = Field(description="Requests that are admitted at a time.")
    routed: bool
    models: list[Model]
    totals: dict[str, int]
    cost: float
    recent: list[Answered] = Field(description="The newest first.")


def describe(snapshot: Snapshot) -> EngineState:
    """`snapshot` as the page reads it."""
    return EngineState(
        uptime=snapshot.uptime,
        in_progress=snapshot.in_progress,
        most=snapshot.most,
        routed=snapshot.routed,
        models=[_model(state) for state in snapshot.models],
        totals=dict(snapshot.totals),
        cost=snapshot.cost,
        recent=[_answered(record) for record in _newest(snapshot.recent)],
    )


def _newest(records: Sequence[Record]) -> list[Record]:
    return list(reversed(records[-_RECENT:]))


def _model(state: ModelState) -> Model:
    stats = state.stats
    found = Model(
        name=state.name,
        loaded=state.loaded,
        quality=state.quality,
        parallel=state.parallel,
        ctx=state.ctx,
        active=state.active,
        waiting=state.waiting,
        idle_seconds=state.idle_seconds,
        full_bits=state.full_bits,
        layers=[
            Layer(name=name, bits=[round(bits, 2) for bits in experts]) for name, experts in state.resident_bits.items()
        ],
    )
    if stats is not None:
        found.counters = Counters(**{name: getattr(stats, name) for name in Counters.model_fields})
        found.memory = Memory(
            budget=stats.budget_bytes,
            process=stats.rss_bytes,
            peak=stats.peak_bytes,
            cache=stats.cache_bytes,
            experts=stats.resident_bytes,
        )
    return found


def _answered(record: Record) -> Answered:
    speed = 1 / record.per_token if record.per_token else None
    return Answered(
        model=record.model,
        route=record.route,
        outcome=record.outcome,
        prompt_tokens=record.prompt_tokens,
        cached_tokens=record.cached_tokens,
        completion_tokens=record.completion_tokens,
        first_token=record.first_token,
        tokens_per_second=speed if speed is not None and math.isfinite(speed) else None,
        cost=record.cost,
    )


async def _shared(request: Request) -> EngineState:
    """However many pages are open, the engine is read twice a second at most, and computing waits for none of it."""
    kept = request.app.state
    now = time.monotonic()
    if getattr(kept, "engine_read", -math.inf) + FRESH <= now:
        kept.engine_state, kept.engine_read = describe(kept.service.snapshot()), now
    state: EngineState = kept.engine_state
    return state


Shared = Annotated[EngineState, Depends(_shared)]
"""An endpoint's argument of this type is what all pages are told now."""
