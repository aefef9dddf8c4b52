"""The tables of `edgemoe route eval`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from edgemoe.cli.console import console

Values = Mapping[str, Any]


def print_evaluation(found: Values) -> None:
    """Prints what was measured, one table after the other."""
    speed = found["speed"]
    _print(
        "speed",
        ("file", "load ms", "p50 ms, 200 words", "p95 ms"),
        [
            (
                f"{speed['bytes'] / 1e6:.2f} MB",
                f"{speed['load ms']:.1f}",
                f"{speed['p50 ms']:.3f}",
                f"{speed['p95 ms']:.3f}",
            )
        ],
    )
    for head, values in found.get("heads", {}).items():
        _print(head, ("measure", "value"), list(_flat(values)))
    benchmarks = found.get("benchmarks", {})
    if "gqr" in benchmarks:
        _print_gqr(benchmarks["gqr"])
    if "routing" in benchmarks:
        _print_routing(benchmarks["routing"])
    if "unsafe" in benchmarks:
        _print("unsafe", ("measure", "value"), list(_flat(benchmarks["unsafe"])))


def _print(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console().print(table)


def _flat(values: Values) -> list[tuple[str, str]]:
    rows = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += [(f"{name}: {key}", _number(v)) for key, v in value.items()]
        else:
            rows.append((name, _number(value)))
    return rows


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _print_gqr(gqr: Values) -> None:
    rows = [
        (name, f"{gqr[name]:.3f}") for name in ("gqr", "gqr own", "id official", "id own", "ood", "calibration error")
    ]
    for group in ("id official labels", "id own labels", "ood sets"):
        rows += [(f"{group}: {name}", f"{value:.3f}") for name, value in gqr[group].items()]
    _print("guarded query routing", ("measure", "value"), rows)


def _print_routing(routing: Values) -> None:
    columns = ("APGR", "CPT50", "CPT80", "AUC")
    rows = []
    for name, values in routing["sets"].items():
        rows.append((name, *(f"{values[c]:.3f}" for c in columns), f"{routing['length'][name]['APGR']:.3f}"))
    mean = routing["mean"]
    rows.append(("mean", *(f"{mean[c]:.3f}" for c in columns), f"{routing['mean of length']['APGR']:.3f}"))
    rows.append(("random", "0.500", "0.500", "0.800", "0.500", ""))
    _print("local or cloud", ("set", *columns, "APGR of length"), rows)
