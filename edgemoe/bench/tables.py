"""Measurements as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgemoe.bench.measure import Measurement
from edgemoe.sizes import format_size

_Cell = Callable[[Measurement], str]


def _number(form: str, name: str, scale: float = 1) -> _Cell:
    def cell(result: Measurement) -> str:
        value = getattr(result, name)
        return "-" if value is None else format(value * scale, form)

    return cell


def _size(name: str) -> _Cell:
    def cell(result: Measurement) -> str:
        value = getattr(result, name)
        return "-" if value is None else format_size(value)

    return cell


COLUMNS: dict[str, _Cell] = {
    "memory": lambda result: result.label,
    "quality": lambda result: result.quality or "-",
    "sequences": _number("d", "sequences"),
    "load s": _number(".2f", "load_seconds"),
    "first token s": _number(".2f", "time_to_first_token"),
    "prompt tok/s": _number(".1f", "prompt_tps"),
    "decode tok/s": _number(".2f", "decode_tps"),
    "tok/s each": _number(".2f", "sequence_tps"),
    "hits": _number(".1%", "hit_rate"),
    "read/token": _size("bytes_per_token"),
    "peak": _size("peak_bytes"),
    "J/token": _number(".2f", "joules_per_token"),
    "above idle": _number(".2f", "joules_above_idle"),
}
"""What a row shows, by title; what is not known is a dash."""

SPLIT = {
    "wait ms": _number(".1f", "wait_seconds", 1e3),
    "experts ms": _number(".1f", "expert_seconds", 1e3),
    "rest ms": _number(".1f", "rest_seconds", 1e3),
}
"""Where the time of a decoded token goes."""


def rows(results: Sequence[Measurement], columns: dict[str, _Cell] = COLUMNS) -> list[list[str]]:
    """The titles, and a row for each result. Settings that no two results differ in have no column."""
    left_out = set()
    if len({result.quality for result in results} - {None}) < 2:
        left_out.add("quality")
    if not any(result.sequences for result in results):
        left_out |= {"sequences", "tok/s each"}
    if not any(result.joules_per_token is not None for result in results):
        left_out |= {"J/token", "above idle"}
    shown = {title: cell for title, cell in columns.items() if title not in left_out}
    return [list(shown), *([cell(result) for cell in shown.values()] for result in results)]


def markdown(results: Sequence[Measurement]) -> str:
    """A table for a document; errors stand below it."""
    titles, *cells = rows(results)
    lines = ["| " + " | ".join(row) + " |" for row in [titles, ["---"] + ["---:"] * (len(titles) - 1), *cells]]
    return "\n".join([*lines, *_errors(results)])


def plain(results: Sequence[Measurement]) -> str:
    """A table for a terminal; errors stand below it."""
    return "\n".join([aligned(rows(results)), *_errors(results)])


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as lines: the first column to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for label, *figures in table:
        shown = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
        lines.append("  ".join([label.ljust(widths[0]), *shown]))
    return "\n".join(lines)


def _errors(results: Sequence[Measurement]) -> list[str]:
    return [f"\n{result.title or result.label}: {result.error}" for result in results if result.error]
