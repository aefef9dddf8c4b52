"""What plots of measurements show, whatever draws them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgemoe.bench.measure import Measurement
from edgemoe.bench.peers import Peer

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class Line:
    """Points (x, y) in the order of x. A point with x None holds for every x: a level to compare with."""

    name: str
    points: list[tuple[float | None, float]]
    peer: bool = False
    """Another program's."""

    @property
    def level(self) -> float | None:
        return self.points[0][1] if self.points[0][0] is None else None


@dataclass(frozen=True)
class Chart:
    """Lines over an axis `x`, from zero in `y`.

    `marks` are the places of x that were measured, if they are few. The points of `curves` are many: they have no mark
    and no figure of their own.
    """

    title: str
    x: str
    y: str
    lines: list[Line]
    marks: list[float] | None = None
    curves: bool = False

    @property
    def largest(self) -> float:
        return max((y for line in self.lines for _, y in line.points), default=1.0)

    def crowded(self, x: float | None, y: float) -> bool:
        """Whether another point is so close above that a figure has its place below (x, y)."""
        others = (point for line in self.lines for point in line.points if point[0] == x)
        return any(y < other < y + 0.1 * self.largest for _, other in others)


@dataclass(frozen=True)
class Bar:
    """Milliseconds of one token by what they were spent on, in the order of TIMES."""

    name: str
    milliseconds: list[float]


TIMES = ("waiting for the disk", "computing experts", "the rest")


@dataclass(frozen=True)
class HeatMap:
    """`bits[i][e]`: bits per weight of expert e of group i that are in memory. Groups may differ in experts."""

    name: str
    groups: list[str]
    bits: list[list[float]]

    def label(self, group: int) -> str:
        """The layer of a group, with its family where that is another than usual: "3" for "blk.3.exps"."""
        _, layer, family = self.groups[group].split(".", 2)
        return layer if family == "exps" else f"{layer} {family}"

    @property
    def experts(self) -> int:
        return max(map(len, self.bits))

    @property
    def mean(self) -> float:
        return sum(map(sum, self.bits)) / sum(map(len, self.bits))


@dataclass(frozen=True)
class Report:
    """Everything that is drawn of one benchmark; `subject` says what it is about."""

    model: str
    results: Sequence[Measurement]
    charts: list[Chart]
    bars: list[Bar] = field(default_factory=list)
    maps: list[HeatMap] = field(default_factory=list)
    peers: Sequence[Peer] = field(default=())
    subject: str = "speed, time and experts in memory"

    @property
    def top_bits(self) -> float:
        """The most bits of any expert: where the colours of all maps end."""
        return max((bits for heat in self.maps for group in heat.bits for bits in group), default=0.0) or 1.0


def make_report(model: str, results: Sequence[Measurement], peers: Sequence[Peer] = ()) -> Report:
    """What there is to draw of `results`; those that failed have no place in charts."""
    measured = [result for result in results if result.error is None]
    parallel = any(result.sequences for result in measured)
    bars = [
        Bar(result.title, [1e3 * (seconds or 0.0) for seconds in _seconds(result)])
        for result in measured
        if result.wait_seconds is not None
    ]
    maps = [
        HeatMap(result.title, list(result.resident_bits), list(result.resident_bits.values()))
        for result in measured
        if result.resident_bits
    ]
    charts = _by_sequences(measured) if parallel else [_by_budget(measured, peers)]
    return Report(model, results, charts, bars, maps, peers)


def _seconds(result: Measurement) -> tuple[float | None, ...]:
    return result.wait_seconds, result.expert_seconds, result.rest_seconds


def _by_budget(results: Sequence[Measurement], peers: Sequence[Peer]) -> Chart:
    points: dict[str, list[tuple[float | None, float]]] = {}
    largest = max([*(_memory(result) for result in results), *(peer.budget for peer in peers)], default=GIB)
    name, size = ("GiB", GIB) if largest >= GIB else ("MiB", MIB)
    for result in results:
        place = None if result.quality is None else _memory(result) / size
        points.setdefault(result.quality or "llama.cpp", []).append((place, result.decode_tps or 0.0))
    lines = [Line(quality, _sorted(found)) for quality, found in points.items()]
    others: dict[str, list[tuple[float | None, float]]] = {}
    for peer in peers:
        others.setdefault(peer.name, []).append((peer.budget / size, peer.tok_s))
    lines += [Line(program, _sorted(found), peer=True) for program, found in others.items()]
    return Chart("Speed by memory budget", f"memory budget, {name}", "tokens per second", lines)


def _memory(result: Measurement) -> int:
    """What the process was allowed, or took where there was no limit."""
    return result.budget_bytes or result.peak_bytes or 0


def _by_sequences(results: Sequence[Measurement]) -> list[Chart]:
    charts: list[tuple[str, str, Callable[[Measurement], float | None]]] = [
        ("Speed of all sequences together", "tokens per second", lambda result: result.decode_tps),
        ("Speed of each sequence", "tokens per second", lambda result: result.sequence_tps),
        ("Read from disk for each token", "MiB", lambda result: (result.bytes_per_token or 0.0) / MIB),
    ]
    budgets = len({result.label for result in results}) > 1
    qualities = len({result.quality for result in results}) > 1
    drawn = []
    for title, unit, value in charts:
        points: dict[str, list[tuple[float | None, float]]] = {}
        for result in results:
            settings = [result.label] * (budgets or not qualities) + [result.quality or ""] * qualities
            points.setdefault(", ".join(settings), []).append((float(result.sequences or 1), value(result) or 0.0))
        lines = [Line(name, _sorted(found)) for name, found in points.items()]
        marks = sorted({float(result.sequences or 1) for result in results})
        drawn.append(Chart(title, "sequences", unit, lines, marks))
    return drawn


def _sorted(points: list[tuple[float | None, float]]) -> list[tuple[float | None, float]]:
    return sorted(points, key=lambda point: point[0] or 0.0)
