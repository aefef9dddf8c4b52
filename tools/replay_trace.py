"""Replays recorded routing against cache policies and sizes.

    python tools/replay_trace.py trace.msgpack --cache 400MB,1.3GB,25% --policy decayed,lru,lfu,optimal

Record a trace with `edgemoe chat --trace FILE` or `Llama(..., trace=FILE)`. Each expert of a layer counts as one unit;
`optimal` evicts what is used again last (Belady, IBM Systems Journal 5(2), 1966), which no policy can know in advance.

    python tools/replay_trace.py trace.msgpack --pack model.mwq.gguf --quality exact,balanced,fast,0.03

replays planes instead: what the choice of planes would have read of this pack, with the mean error of a layer and the
bits per weight that it would have used.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click
from rich.console import Console
from rich.table import Table

from edgemoe import _native
from edgemoe.errors import EdgeMoEError
from edgemoe.experts.quality import EXACT, TARGETS
from edgemoe.experts.trace import Trace, read_trace
from edgemoe.packs.reader import Pack
from edgemoe.residence import HALF_LIFE
from edgemoe.sizes import format_size, parse_size

POLICIES = ("decayed", "lru", "lfu", "optimal")


@dataclass(frozen=True)
class Result:
    """Counts are of (group, expert) uses after the warm-up; `capacity` is in experts."""

    policy: str
    cache_bytes: int
    share: float
    capacity: int
    hits: int
    misses: int
    bytes_per_token: float

    @property
    def hit_rate(self) -> float:
        return self.hits / max(1, self.hits + self.misses)


def replay(trace: Trace, policy: str, cache_bytes: int, half_life: float, warmup: float) -> Result:
    """`warmup` is the share of events that fill the cache but are not counted."""
    largest = max(size for _, _, size in trace.groups)
    experts = [count for _, count, _ in trace.groups]
    capacity = cache_bytes // largest
    skip = int(len(trace.events) * warmup)
    if policy == "optimal":
        hits, misses = _optimal(trace, capacity, skip)
    else:
        hits, misses = _native.replay(trace.events, experts, capacity, policy, half_life, skip)
    tokens = sum(tokens for group, tokens, *_ in trace.events[skip:] if group == 0)
    total = sum(count * size for _, count, size in trace.groups)
    return Result(policy, cache_bytes, cache_bytes / total, capacity, hits, misses, misses * largest / max(1, tokens))


@dataclass(frozen=True)
class PlaneResult:
    """Bytes are those of planes; `error` is the mean over layers and batches."""

    quality: str
    cache_bytes: int
    share: float
    bytes_per_token: float
    bits: float
    error: float


def replay_planes(
    trace: Trace, pack: Pack, quality: str, cache_bytes: int, half_life: float, warmup: float
) -> PlaneResult:
    """Raises EdgeMoEError when the trace is of another model, or the quality is none that waits for an error."""
    if [group[:2] for group in trace.groups] != [(group.name, group.experts) for group in pack.groups]:
        raise EdgeMoEError(f"{pack.path.name} has other layers and experts than the model of the trace, {trace.model}")
    skip = int(len(trace.events) * warmup)
    sizes = [[group.extent(level) for level in pack.levels if group.extent(level)] for group in pack.groups]
    errors = [pack.errors(group)[:, : len(size)] for group, size in zip(pack.groups, sizes, strict=True)]
    groups = [(size, error.ravel().tolist()) for size, error in zip(sizes, errors, strict=True)]
    done = _native.replay_planes(trace.events, groups, cache_bytes, _target(quality), half_life, skip)
    read, used, whole, error = done
    tokens = sum(tokens for group, tokens, *_ in trace.events[skip:] if group == 0)
    total = sum(group.experts * sum(size) for group, size in zip(pack.groups, sizes, strict=True))
    bits = 8 * total / sum(group.experts * group.weights for group in pack.groups)
    return PlaneResult(
        quality, cache_bytes, cache_bytes / total, read / max(1, tokens), bits * used / max(1, whole), error
    )


def _target(quality: str) -> float:
    if quality == EXACT:
        return 0.0
    with contextlib.suppress(ValueError):
        if 0 < (target := TARGETS.get(quality) or float(quality)) <= 1:
            return target
    raise EdgeMoEError(f"{quality!r} cannot be replayed: use exact, {', '.join(TARGETS)}, or an error up to 1")


def pack_bytes(pack: Pack) -> int:
    """All planes of all experts."""
    return sum(group.experts * group.extent(level) for group in pack.groups for level in pack.levels)


def _optimal(trace: Trace, capacity: int, skip: int) -> tuple[int, int]:
    """Hits and misses when the unit whose next use is farthest away is always the one evicted."""
    uses: dict[tuple[int, int], list[int]] = {}
    sequence = [(group, expert) for group, _, experts, *_ in trace.events for expert in experts]
    for position, unit in enumerate(sequence):
        uses.setdefault(unit, []).append(position)
    counted_from = sum(len(experts) for _, _, experts, *_ in trace.events[:skip])

    def next_use(unit: tuple[int, int], position: int) -> int:
        index = bisect.bisect_right(uses[unit], position)
        return uses[unit][index] if index < len(uses[unit]) else sys.maxsize

    resident: dict[tuple[int, int], int] = {}
    hits = misses = 0
    for position, unit in enumerate(sequence):
        if position >= counted_from:
            hits += unit in resident
            misses += unit not in resident
        if unit not in resident and len(resident) >= capacity > 0:
            del resident[max(resident, key=resident.__getitem__)]
        if capacity > 0:
            resident[unit] = next_use(unit, position)
    return hits, misses


def _show(trace: Trace, results: Sequence[Result | PlaneResult]) -> None:
    table = Table(title=f"{trace.model}: {trace.tokens} tokens, {len(trace.groups)} layers", title_justify="left")
    planes = isinstance(results[0], PlaneResult)
    names = ("quality", "bits", "error") if planes else ("policy", "hit rate")
    for heading in ("cache", "of the experts", *names, "read per token"):
        table.add_column(heading, justify="left" if heading == names[0] else "right")
    for r in results:
        own = (
            (r.quality, f"{r.bits:.2f}", f"{r.error:.4f}")
            if isinstance(r, PlaneResult)
            else (r.policy, f"{r.hit_rate:.1%}")
        )
        table.add_row(format_size(r.cache_bytes), f"{r.share:.0%}", *own, format_size(r.bytes_per_token))
    Console().print(table)


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.argument("trace", type=click.Path(exists=True, dir_okay=False))
@click.option("--cache", "caches", default="11%,22%,45%", show_default=True, help="Sizes, or shares of all experts.")
@click.option("--pack", type=click.Path(exists=True, dir_okay=False), help="Replay the planes of this pack.")
@click.option("--quality", "qualities", default=f"{EXACT},{','.join(TARGETS)}", show_default=True, help="With --pack.")
@click.option("--policy", "policies", default=",".join(POLICIES), show_default=True, help="Policies to compare.")
@click.option("--half-life", default=HALF_LIFE, show_default=True, help="Tokens, for the policy 'decayed'.")
@click.option("--warmup", default=0.5, show_default=True, help="Share of the trace that fills the cache uncounted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def main(
    trace: str,
    caches: str,
    pack: str | None,
    qualities: str,
    policies: str,
    half_life: float,
    warmup: float,
    as_json: bool,
) -> None:
    results: Sequence[Result | PlaneResult]
    try:
        recorded = read_trace(trace)
        if pack is not None:
            with Pack(pack) as opened:
                sizes = [parse_size(size, whole=pack_bytes(opened)) for size in caches.split(",")]
                choices = [(size, quality) for size in sizes for quality in qualities.split(",")]
                results = [replay_planes(recorded, opened, q, size, half_life, warmup) for size, q in choices]
        else:
            total = sum(count * size for _, count, size in recorded.groups)
            wanted = policies.split(",")
            if unknown := set(wanted) - set(POLICIES):
                raise EdgeMoEError(f"unknown policy {unknown.pop()!r}: use {', '.join(POLICIES)}")
            sizes = [parse_size(size, whole=total) for size in caches.split(",")]
            results = [replay(recorded, policy, size, half_life, warmup) for size in sizes for policy in wanted]
    except EdgeMoEError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(r) | _hit_rate(r) for r in results]))
    else:
        _show(recorded, results)


def _hit_rate(result: Result | PlaneResult) -> dict[str, float]:
    return {"hit_rate": result.hit_rate} if isinstance(result, Result) else {}


if __name__ == "__main__":
    main()
