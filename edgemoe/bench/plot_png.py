"""A report as a picture, by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from edgemoe.bench.report import TIMES, Bar, Chart, HeatMap, Report

# Told apart by people who see fewer colours, too (M. Okabe and K. Ito, Color Universal Design).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
TIME_COLOURS = ("#d55e00", "#0072b2", "#a8a8a8")
_MARKERS = "osD^vP"
_INK = "#333333"
_WIDTH = 11.0
_DPI = 150


def save(report: Report, path: Path) -> None:
    """Writes `report` as a PNG. Raises OSError."""
    draw(report).savefig(path, metadata={"Title": f"{report.model}: {report.subject}"})


def draw(report: Report) -> Figure:
    """The figure: charts, three in a row, then bars, then maps, two in a row."""
    charts = [report.charts[i : i + 3] for i in range(0, len(report.charts), 3)]
    maps = [report.maps[i : i + 2] for i in range(0, len(report.maps), 2)]
    heights = [3.7] * len(charts)
    heights += [0.95 + 0.34 * len(report.bars)] if report.bars else []
    heights += [max(0.9 + min(0.2 * max(len(heat.bits) for heat in row), 4.0), 1.7) for row in maps]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.5), dpi=_DPI, layout="constrained")
    figure.suptitle(report.model, x=0.01, ha="left", fontsize=13, fontweight="bold", color=_INK)
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=0.12, h_pad=0.09)
    rows = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, drawn in zip(rows, charts, strict=False):
        for axes, chart in zip(row.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
            _draw_chart(axes, chart)
    if report.bars:
        _draw_bars(rows[len(charts)].subplots(), report.bars)
    for row, heats in zip(rows[len(heights) - len(maps) :], maps, strict=True):
        _draw_maps(row, heats, report.top_bits)
    return figure


def _plain(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, color="#999999")


def _draw_chart(axes: Any, chart: Chart) -> None:
    _plain(axes, chart.title)
    own = 0
    for number, line in enumerate(chart.lines):
        colour = COLOURS[number % len(COLOURS)]
        if line.level is not None:
            axes.axhline(line.level, color="#777777", linestyle=":", linewidth=1.5, label=line.name)
            continue
        marker, style = "" if chart.curves else _MARKERS[own % len(_MARKERS)], "--" if line.peer else "-"
        own += 1
        places, values = zip(*line.points, strict=True)
        axes.plot(places, values, style, marker=marker, color=colour, linewidth=1.8, markersize=6, label=line.name)
        for place, value in [] if chart.curves else line.points:
            away = -14 if chart.crowded(place, value) else 7
            place_of = {"xytext": (0, away), "textcoords": "offset points", "ha": "center"}
            label = axes.annotate(f"{value:.3g}", (place, value), fontsize=8, color=colour, **place_of)
            label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    axes.set_xlabel(chart.x, fontsize=9)
    axes.set_ylabel(chart.y, fontsize=9)
    axes.set_ylim(0, (1.05 if chart.curves else 1.18) * chart.largest)
    axes.margins(x=0.08)
    if chart.marks:
        axes.set_xticks(chart.marks)
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    if len(chart.lines) > 1:
        axes.legend(fontsize=9, frameon=False)


def _draw_bars(axes: Any, bars: Sequence[Bar]) -> None:
    _plain(axes, "Time of one token, milliseconds")
    left = np.zeros(len(bars))
    for part, (name, colour) in enumerate(zip(TIMES, TIME_COLOURS, strict=True)):
        widths = np.array([bar.milliseconds[part] for bar in bars])
        axes.barh(range(len(bars)), widths, left=left, height=0.62, color=colour, edgecolor="white", label=name)
        left += widths
    for place, total in enumerate(left):
        axes.annotate(f"{total:.3g}", (total, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(bars)), [bar.name for bar in bars], fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.06)
    axes.legend(fontsize=9, frameon=False, ncols=len(TIMES), loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)


def _draw_maps(row: Any, heats: Sequence[HeatMap], top: float) -> None:
    all_axes = row.subplots(1, len(heats), squeeze=False)[0]
    image = None
    for axes, heat in zip(all_axes, heats, strict=True):
        cells = np.full((len(heat.bits), heat.experts), np.nan)
        for group, bits in enumerate(heat.bits):
            cells[group, : len(bits)] = bits
        image = axes.imshow(cells, cmap=colormaps["Blues"], vmin=0, vmax=top, aspect="auto", interpolation="nearest")
        axes.set_title(f"Experts in memory, {heat.name}", loc="left", fontsize=11, color=_INK)
        axes.set_xlabel(f"expert  (mean {heat.mean:.2f} bits per weight)", fontsize=9)
        axes.set_ylabel("layer", fontsize=9)
        axes.tick_params(labelsize=8)
        step = max(1, len(heat.groups) // 8)
        places = range(0, len(heat.groups), step)
        axes.set_yticks(places, [heat.label(place) for place in places])
    bar = row.colorbar(image, ax=all_axes, pad=0.01, aspect=14)
    bar.set_label("bits per weight", fontsize=9)
    bar.ax.tick_params(labelsize=8)
