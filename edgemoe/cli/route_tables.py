"""The tables and curves of `edgemoe route eval`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from edgemoe.bench.report import Chart, Line, Report
from edgemoe.bench.tables import aligned
from edgemoe.routing.local_or_cloud import ORDERS, Comparison

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
    if "unsafe" in benchmarks:
        _print("unsafe", ("measure", "value"), list(_flat(benchmarks["unsafe"])))
    if "local or cloud" in found:
        _print_orders(found["local or cloud"])


def _print(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    click.echo(f"\n{title}\n{aligned([columns, *rows])}")


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


def _print_orders(found: Values) -> None:
    columns = ("APGR", "CPT50", "CPT80", "AUC")
    rows = []
    for name, orders in (found["sets"] | {"mean": found["mean"]}).items():
        for order in ORDERS:
            values = orders[order]
            figures = (f"{values[c]:.3f}" if c in values else "" for c in columns)
            error = values.get("calibration error")
            rows.append((f"{name or 'prompts'}: {order}", *figures, "" if error is None else f"{error:.3f}"))
    _print("local or cloud", ("order", *columns, "calibration error"), rows)


def curves_report(name: str, comparison: Comparison) -> Report:
    """Cost and quality of each order, for the router with this name."""
    titles = comparison.titles()
    charts = [
        Chart(
            titles[group] or "prompts",
            "share of prompts to the strong model, %",
            "recovered of the gap between the models, %",
            [Line(order, _percent(curve), peer=order != "router") for order, curve in curves.items()],
            curves=True,
        )
        for group, curves in comparison.curves().items()
    ]
    return Report(name, [], charts, subject="quality by the share of prompts to the strong model")


def _percent(curve: Sequence[float]) -> list[tuple[float | None, float]]:
    return [(float(share), 100 * gained) for share, gained in enumerate(curve)]
