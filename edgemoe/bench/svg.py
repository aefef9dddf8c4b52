"""Charts as SVG for a page: classes name what things are, and the page's styles colour them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from edgemoe.bench.report import TIMES, Bar, Chart, HeatMap, Line

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 46
_MARKERS = ("M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", "M-4-4h8v8h-8z", "M0-5l5 5l-5 5l-5-5z", "M0-5l5 9h-10z")


def ticks(largest: float, count: int = 5) -> list[float]:
    """Round numbers from 0 to at least `largest`: steps of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (largest or 1.0) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [step * i for i in range(math.ceil(largest / step - 1e-9) + 1)]


def series(number: int) -> str:
    """The class of line `number`."""
    return f"s{number % 6}"


def marker(number: int) -> str:
    """The path of the mark of line `number`, around 0, 0."""
    return _MARKERS[number % len(_MARKERS)]


def chart(drawn: Chart) -> str:
    """A line chart from zero; each point, of curves each line, has a title with its values."""
    points = [point for line in drawn.lines for point in line.points]
    xs = [x for x, _ in points if x is not None]
    x_ticks = [0.0, *(drawn.marks or [])] if drawn.marks else ticks(max(xs, default=1.0))
    y_ticks = ticks(drawn.largest * 1.05)
    right, top = max(x_ticks[-1], max(xs, default=1.0)) * 1.04, y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / right
        return across, _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * y / top

    parts = []
    for tick in y_ticks:
        _, y = place(0, tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick end" x="{_LEFT - 8}" y="{y + 4:.1f}">{tick:g}</text>')
    for tick in x_ticks:
        x, y = place(tick, 0)
        parts.append(f'<path class="axis" d="M{x:.1f} {y:.1f}v5"/>')
        parts.append(f'<text class="tick middle" x="{x:.1f}" y="{y + 18:.1f}">{tick:g}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}"/>')
    parts.append(f'<text class="tick middle" x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 6}">{escape(drawn.x)}</text>')
    for number, line in enumerate(drawn.lines):
        if line.level is not None:
            _, y = place(0, line.level)
            title = f"<title>{escape(line.name)}: {line.level:.4g} {escape(drawn.y)}</title>"
            parts.append(f'<path class="level" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}">{title}</path>')
            continue
        parts.append(_line(line, number, [place(x or 0.0, y) for x, y in line.points], drawn))
    label = escape(f"{drawn.title}. {_summary(drawn)}", quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _line(line: Line, number: int, places: Sequence[tuple[float, float]], drawn: Chart) -> str:
    path = " ".join(f"{x:.1f} {y:.1f}" for x, y in places)
    name = f"<title>{escape(line.name)}</title>" if drawn.curves else ""
    parts = [f'<polyline class="line {series(number)}{" peer" if line.peer else ""}" points="{path}">{name}</polyline>']
    if drawn.curves:
        return parts[0]
    for (x, y), (at, value) in zip(places, line.points, strict=True):
        title = escape(f"{line.name}: {value:.4g} {drawn.y} at {at:.3g} ({drawn.x})")
        shape = f'<path class="mark {series(number)}" d="{marker(number)}"><title>{title}</title></path>'
        parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{shape}</g>')
        beside = y + (20 if drawn.crowded(at, value) else -10)
        parts.append(f'<text class="value middle" x="{x:.1f}" y="{beside:.1f}">{value:.3g}</text>')
    return "".join(parts)


def _summary(drawn: Chart) -> str:
    found = []
    for line in drawn.lines:
        values = [y for _, y in line.points]
        found.append(f"{line.name}: {min(values):.3g} to {max(values):.3g} {drawn.y}")
    return "; ".join(found)


def bars(drawn: Sequence[Bar]) -> str:
    """Stacked bars, one below the other."""
    names = max(len(bar.name) for bar in drawn) * 7 + 16
    width, step = 640 - names - 70, 26
    largest = max(sum(bar.milliseconds) for bar in drawn) or 1.0
    parts = []
    for row, bar in enumerate(drawn):
        x, y = float(names), row * step
        parts.append(f'<text class="tick end" x="{names - 8}" y="{y + 17}">{escape(bar.name)}</text>')
        for number, (name, value) in enumerate(zip(TIMES, bar.milliseconds, strict=True)):
            length = width * value / largest
            title = f"<title>{escape(bar.name)}: {value:.1f} ms {name}</title>"
            parts.append(
                f'<rect class="t{number}" x="{x:.1f}" y="{y + 3}" width="{length:.1f}" height="20">{title}</rect>'
            )
            x += length
        parts.append(f'<text class="value" x="{x + 6:.1f}" y="{y + 17}">{sum(bar.milliseconds):.1f} ms</text>')
    each = "; ".join(
        f"{bar.name}: " + ", ".join(f"{v:.1f} ms {n}" for n, v in zip(TIMES, bar.milliseconds, strict=True))
        for bar in drawn
    )
    label = escape(f"Time of one token. {each}", quote=True)
    return f'<svg viewBox="0 0 640 {len(drawn) * step}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def heat_map(heat: HeatMap, top: float) -> str:
    """Layers by experts; the more bits, the fuller the colour. One path holds all cells of one value, in runs."""
    runs: dict[float, list[str]] = {}
    for row, group in enumerate(heat.bits):
        start = 0
        for column in range(1, len(group) + 1):
            if column == len(group) or group[column] != group[start]:
                runs.setdefault(group[start], []).append(f"M{start} {row}h{column - start}v1h-{column - start}z")
                start = column
    paths = []
    for bits, cells in sorted(runs.items()):
        title = f"<title>{bits:.2f} bits per weight</title>"
        paths.append(f'<path class="cells" fill-opacity="{bits / top:.3f}" d="{"".join(cells)}">{title}</path>')
    rows, columns = len(heat.bits), heat.experts
    empty = sum(bits == 0 for group in heat.bits for bits in group)
    label = escape(
        f"Experts in memory, {heat.name}: {rows} layers of up to {columns} experts. The mean is {heat.mean:.2f} bits "
        f"per weight of at most {top:.2f}; {empty} of {sum(map(len, heat.bits))} experts have none.",
        quote=True,
    )
    return (
        f'<svg class="heat" viewBox="0 0 {columns} {rows}" preserveAspectRatio="none" role="img" '
        f'style="height:{max(5 * rows, 60)}px" shape-rendering="crispEdges" aria-label="{label}">{"".join(paths)}</svg>'
    )
