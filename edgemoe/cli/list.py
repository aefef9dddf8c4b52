"""`edgemoe list`: the models on this machine that have a name."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from edgemoe.cli import options
from edgemoe.sizes import format_size

if TYPE_CHECKING:
    from edgemoe.hub.known import Known

_COLUMNS = ("name", "size", "type", "experts", "last used", "from")
_PARTS = ("not complete", "there", "of")
_UNITS = ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute"))


@click.command(short_help="List the models on this machine, by their names.")
@options.as_json
def command(as_json: bool) -> None:
    """List the models on this machine: what was pulled or named, packs, and the one that comes with edgemoe.

    Below them stand downloads that did not come to their end.
    """
    from edgemoe.cli.console import print_json, print_table, quiet_library
    from edgemoe.hub.names import last_used
    from edgemoe.hub.shelf import shelf
    from edgemoe.hub.unfinished import there, unfinished

    quiet_library()
    models, begun = shelf(), unfinished()
    if as_json:
        values = [asdict(m) | {"last_used": last_used(m.path), "missing": not m.path.exists()} for m in models]
        parts = [asdict(m) | {"last_used": None, "missing": True, "unfinished": there(m)} for m in begun]
        print_json([*values, *parts])
        return
    print_table(_COLUMNS, [_cells(model, last_used(model.path)) for model in models])
    if begun:
        click.echo()
        whole = {model: format_size(model.bytes) if model.bytes else "not known" for model in begun}
        print_table(_PARTS, [(model.source or model.name, format_size(there(model)), whole[model]) for model in begun])
        click.echo("edgemoe pull goes on with these, edgemoe rm takes away what is there", err=True)


def _cells(model: Known, used: float | None) -> tuple[str, ...]:
    there = model.path.exists()
    experts = f"{model.experts_used} of {model.experts}" if model.experts else "none"
    source = model.source or str(model.path)
    when = ago(used) if used else "never"
    return model.name, format_size(model.bytes), model.type, experts, when, source if there else f"{source} (gone)"


def ago(moment: float) -> str:
    """How long since `moment`, in seconds since 1970."""
    seconds = max(0.0, time.time() - moment)
    for length, unit in _UNITS:
        if count := int(seconds / length):
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"
