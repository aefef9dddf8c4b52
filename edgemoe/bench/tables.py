"""Measurements as tables."""

from __future__ import annotations

from collections.abc import Sequence

from edgemoe.bench.measure import Measurement
from edgemoe.sizes import format_size

COLUMNS = ("memory", "load s", "first token s", "prompt tok/s", "decode tok/s", "hits", "read/token", "peak")


def cells(result: Measurement) -> tuple[str, ...]:
    """One row under COLUMNS; what is not known is a dash."""
    return (
        result.label,
        _number(result.load_seconds, ".2f"),
        _number(result.time_to_first_token, ".2f"),
        _number(result.prompt_tps, ".1f"),
        _number(result.decode_tps, ".2f"),
        _number(result.hit_rate, ".1%"),
        "-" if result.bytes_per_token is None else format_size(result.bytes_per_token),
        "-" if result.peak_bytes is None else format_size(result.peak_bytes),
    )


def markdown(results: Sequence[Measurement]) -> str:
    """A table for a document; errors stand below it."""
    rows = [COLUMNS, ("---",) + ("---:",) * (len(COLUMNS) - 1), *map(cells, results)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, *_errors(results)])


def plain(results: Sequence[Measurement]) -> str:
    """A table for a terminal; errors stand below it."""
    return "\n".join([*aligned([COLUMNS, *map(cells, results)]), *_errors(results)])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the rows' first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for label, *figures in rows:
        padded = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
        lines.append("  ".join([label.ljust(widths[0]), *padded]))
    return lines


def _errors(results: Sequence[Measurement]) -> list[str]:
    return [f"\n{result.label}: {result.error}" for result in results if result.error]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
