"""`edgemoe rm`: take models off the list, and what pull fetched of them off the disk."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from edgemoe.cli import options
from edgemoe.sizes import format_size

if TYPE_CHECKING:
    from edgemoe.hub.shelf import Removal


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    names = [*options.known_names(), *options.unfinished_names()]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command(short_help="Remove models, and what of a download did not end.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=_complete)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@options.as_json
def command(names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Remove models by their names. Files are deleted only if pull fetched or packed them.

    A model that a process has open stays. Of a download that did not come to its end, give the name that list shows.

    Example: edgemoe rm qwen3-30b-a3b
    """
    from edgemoe.cli.console import print_json
    from edgemoe.hub.shelf import plan_removal, remove

    removals = [plan_removal(name) for name in dict.fromkeys(names)]
    for removal in removals:
        files = "".join(f"\n  {path}" for path in removal.files)
        what = f"frees {format_size(removal.bytes)}{files}" if files else "deletes no file: pull did not write any"
        click.echo(f"{_called(removal)}: {what}", err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("without a terminal nobody can be asked: add --yes")
        click.confirm("Remove?", abort=True, err=True)
    for removal in removals:
        remove(removal)
    if as_json:
        print_json([{"name": _called(r), "files": r.files, "bytes": r.bytes} for r in removals])


def _called(removal: Removal) -> str:
    return removal.model.source or removal.model.name if removal.unfinished else removal.model.name
