"""Replays recorded routing against cache policies and sizes.

    python tools/replay_trace.py trace.msgpack --cache 400MB,1.3GB,25% --policy decayed,lru,lfu,optimal

Record a trace with `edgemoe chat --trace FILE` or `Llama(..., trace=FILE)`. Each expert of a layer counts as one unit;
`optimal` evicts what is used again last (Belady, IBM Systems Journal 5(2), 1966), which no policy can know in advance.
"""

from __future__ import annotations

import bisect
import dataclasses
import json
import sys
from dataclasses import dataclass

import click
from rich.console import Console
from rich.table import Table

from edgemoe import _native
from edgemoe.errors import EdgeMoEError
from edgemoe.experts.trace import Trace, read_trace
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
    tokens = sum(tokens for group, tokens, _, _ in trace.events[skip:] if group == 0)
    total = sum(count * size for _, count, size in trace.groups)
    return Result(policy, cache_bytes, cache_bytes / total, capacity, hits, misses, misses * largest / max(1, tokens))


def _optimal(trace: Trace, capacity: int, skip: int) -> tuple[int, int]:
    """Hits and misses when the unit whose next use is farthest away is always the one evicted."""
    uses: dict[tuple[int, int], list[int]] = {}
    sequence = [(group, expert) for group, _, experts, _ in trace.events for expert in experts]
    for position, unit in enumerate(sequence):
        uses.setdefault(unit, []).append(position)
    counted_from = sum(len(experts) for _, _, experts, _ in trace.events[:skip])

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


def _show(trace: Trace, results: list[Result]) -> None:
    table = Table(title=f"{trace.model}: {trace.tokens} tokens, {len(trace.groups)} layers", title_justify="left")
    for heading in ("cache", "of the experts", "policy", "hit rate", "read per token"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for r in results:
        size = format_size(r.cache_bytes)
        table.add_row(size, f"{r.share:.0%}", r.policy, f"{r.hit_rate:.1%}", format_size(r.bytes_per_token))
    Console().print(table)


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.argument("trace", type=click.Path(exists=True, dir_okay=False))
@click.option("--cache", "caches", default="11%,22%,45%", show_default=True, help="Sizes, or shares of all experts.")
@click.option("--policy", "policies", default=",".join(POLICIES), show_default=True, help="Policies to compare.")
@click.option("--half-life", default=HALF_LIFE, show_default=True, help="Tokens, for the policy 'decayed'.")
@click.option("--warmup", default=0.5, show_default=True, help="Share of the trace that fills the cache uncounted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def main(trace: str, caches: str, policies: str, half_life: float, warmup: float, as_json: bool) -> None:
    try:
        recorded = read_trace(trace)
        total = sum(count * size for _, count, size in recorded.groups)
        sizes = [parse_size(size, whole=total) for size in caches.split(",")]
        wanted = policies.split(",")
        if unknown := set(wanted) - set(POLICIES):
            raise EdgeMoEError(f"unknown policy {unknown.pop()!r}: use {', '.join(POLICIES)}")
        results = [replay(recorded, policy, size, half_life, warmup) for size in sizes for policy in wanted]
    except EdgeMoEError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(r) | {"hit_rate": r.hit_rate} for r in results]))
    else:
        _show(recorded, results)


if __name__ == "__main__":
    main()
