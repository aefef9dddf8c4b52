"""A report as a page of its own: styles, charts and tables are in it, and nothing is loaded from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from edgemoe.bench import svg
from edgemoe.bench.report import TIMES, Chart, HeatMap, Report
from edgemoe.bench.tables import COLUMNS, SPLIT, rows
from edgemoe.sizes import format_size

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #222; --soft: #666; --grid: #e4e4e4; --box: #f6f6f6;
  --s0: #0072b2; --s1: #c24d00; --s2: #00805d; --s3: #b0508a; --s4: #a86f00; --s5: #2d86b5;
  --t0: #d55e00; --t1: #0072b2; --t2: #a8a8a8; --cell: #0b4f8a; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171a; --ink: #e6e6e6; --soft: #a5a9ae; --grid: #30343a; --box: #1e2125;
    --s0: #56b4e9; --s1: #ff914d; --s2: #35c99d; --s3: #e79bc9; --s4: #f0b83f; --s5: #9fd6f5;
    --t0: #f08a4b; --t1: #4aa3e0; --t2: #7b8087; --cell: #6cc1f5; }
}
body { margin: 0 auto; padding: 1.5rem; max-width: 64rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { margin: .3rem 0; color: var(--soft); }
svg { display: block; width: 100%; height: auto; max-width: 48rem; }
.tick, .value { font: 12px system-ui, sans-serif; fill: var(--soft); } .value { fill: var(--ink); }
.value.middle { paint-order: stroke; stroke: var(--page); stroke-width: 4px; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.grid { stroke: var(--grid); } .axis { stroke: var(--soft); } .grid, .axis { fill: none; }
.line { fill: none; stroke-width: 2; } .peer { stroke-dasharray: 6 4; }
.level { stroke: var(--soft); stroke-width: 2; stroke-dasharray: 2 4; }
.t0 { fill: var(--t0); } .t1 { fill: var(--t1); } .t2 { fill: var(--t2); }
.heat { max-width: none; background: var(--box); outline: 1px solid var(--grid); } .cells { fill: var(--cell); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; margin: .3rem 0; list-style: none;
  font-size: .9rem; }
.legend svg { display: inline-block; width: 28px; height: 14px; margin-right: .4rem; vertical-align: -2px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: .3rem 0; }
th, td { padding: .25rem .55rem; text-align: right; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } td.bits { white-space: normal; text-align: left; }
.error { white-space: pre-wrap; } details { margin: .4rem 0; } summary { cursor: pointer; color: var(--soft); }
.ramp { display: inline-block; width: 8rem; height: .8rem; vertical-align: -1px; border: 1px solid var(--grid);
  background: linear-gradient(to right, var(--box), var(--cell)); }
"""
_STYLE += "".join(
    f".s{i}.line, .k{i} {{ stroke: var(--s{i}); }} .s{i}.mark {{ fill: var(--s{i}); }}\n" for i in range(6)
)


def page(report: Report) -> str:
    """The page as HTML."""
    name = escape(report.model)
    parts = [f"<h1>{name}</h1>"]
    for chart in report.charts:
        parts += [f"<h2>{escape(chart.title)}</h2>", _legend(chart), svg.chart(chart)]
    if report.bars:
        parts += ["<h2>Time of one token</h2>", _time_legend(), svg.bars(report.bars)]
    if report.maps:
        parts.append("<h2>Experts in memory at the end</h2>")
        parts.append(
            "<p>A row is a layer, a column an expert. Bits per weight: 0 "
            f'<span class="ramp" role="img" aria-label="from pale to full"></span> {report.top_bits:.2f}</p>'
        )
    for heat in report.maps:
        parts += [f"<h3>{escape(heat.name)}: {heat.mean:.2f} bits on average</h3>", svg.heat_map(heat, report.top_bits)]
    if report.results:
        parts += ["<h2>Figures</h2>", *_tables(report)]
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{name}: '
        f"{escape(report.subject)}</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _legend(chart: Chart) -> str:
    entries = []
    for number, line in enumerate(chart.lines):
        if line.level is not None:
            sample = '<path class="level" d="M0 7h28"/>'
        else:
            kind = "line peer" if line.peer else "line"
            sample = f'<path class="{kind} {svg.series(number)}" d="M0 7h28"/>'
            if not chart.curves:
                sample += f'<g transform="translate(14 7)"><path class="mark {svg.series(number)}" '
                sample += f'd="{svg.marker(number)}"/></g>'
        entries.append(f'<li><svg viewBox="0 0 28 14" aria-hidden="true">{sample}</svg>{escape(line.name)}</li>')
    return f'<ul class="legend">{"".join(entries)}</ul><p>{escape(chart.y)}</p>'


def _time_legend() -> str:
    box = '<li><svg viewBox="0 0 28 14" aria-hidden="true"><rect class="t{0}" width="28" height="14"/></svg>{1}</li>'
    return f'<ul class="legend">{"".join(box.format(number, name) for number, name in enumerate(TIMES))}</ul>'


def _tables(report: Report) -> list[str]:
    titles, *cells = rows(report.results, COLUMNS | SPLIT)
    parts = [_table(titles, cells, "What was measured")]
    parts += [f'<p class="error">{escape(r.title)}: {escape(r.error)}</p>' for r in report.results if r.error]
    if report.peers:
        others = [[peer.name, format_size(peer.budget), f"{peer.tok_s:g}"] for peer in report.peers]
        parts.append(_table(["program", "memory", "decode tok/s"], others, "Other programs, measured elsewhere"))
    parts += [_map_table(heat) for heat in report.maps]
    return parts


def _map_table(heat: HeatMap) -> str:
    cells = []
    for group, bits in enumerate(heat.bits):
        present = sum(value > 0 for value in bits)
        cells.append([heat.label(group), f"{present} of {len(bits)}", f"{sum(bits) / len(bits):.2f}", _numbers(bits)])
    titles = ["layer", "experts in memory", "mean bits", "bits of each expert"]
    name = escape(heat.name)
    return f"<details><summary>Experts in memory, {name}, as a table</summary>{_table(titles, cells, '')}</details>"


def _numbers(bits: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in bits)


def _table(titles: Sequence[str], cells: Sequence[Sequence[str]], caption: str) -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join("<tr>" + "".join(_cell(text) for text in row) + "</tr>" for row in cells)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    long = ' class="bits"' if len(text) > 60 else ""
    return f"<td{long}>{escape(text)}</td>"
