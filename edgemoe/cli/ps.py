"""`edgemoe ps`: which processes have models open."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from edgemoe.cli import options
from edgemoe.sizes import format_size

if TYPE_CHECKING:
    from edgemoe.running import Running

_COLUMNS = ("pid", "model", "memory", "budget", "bits per weight", "since")


@click.command(short_help="List the models that are open now.")
@options.as_json
def command(as_json: bool) -> None:
    """List the models that are open now, in any process of yours: its memory, budget, and the bits it computes with."""
    from edgemoe.cli.console import print_json, print_table
    from edgemoe.running import running

    found = running()
    if as_json:
        print_json([asdict(one) for one in found])
    elif found:
        print_table(_COLUMNS, [_cells(one) for one in found])
    else:
        click.echo("no model is open", err=True)


def _cells(one: Running) -> tuple[str, ...]:
    from edgemoe.cli.list import ago

    budget = "no limit" if one.budget is None else format_size(one.budget) + " (auto)" * one.follows
    bits = f"{one.bits:.2f}" if one.bits else "-"
    return str(one.pid), one.model, format_size(one.memory), budget, bits, ago(one.since)
