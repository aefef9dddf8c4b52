"""`edgemoe rm`: take models off the list, and what pull fetched of them off the disk."""

from __future__ import annotations

import sys

import click
from click.shell_completion import CompletionItem

from edgemoe.cli import options
from edgemoe.sizes import format_size


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in options.known_names() if name.startswith(incomplete)]


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=_complete)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@options.as_json
def command(names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Remove models by their names. Files are deleted only if pull fetched or packed them.

    A model that a process has open stays.
    """
    from edgemoe.cli.console import print_json
    from edgemoe.hub.shelf import plan_removal, remove

    removals = [plan_removal(name) for name in dict.fromkeys(names)]
    for removal in removals:
        files = "".join(f"\n  {path}" for path in removal.files)
        what = f"frees {format_size(removal.bytes)}{files}" if files else "deletes no file: pull did not write any"
        click.echo(f"{removal.model.name}: {what}", err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("without a terminal nobody can be asked: add --yes")
        click.confirm("Remove?", abort=True, err=True)
    for removal in removals:
        remove(removal)
    if as_json:
        print_json([{"name": r.model.name, "files": r.files, "bytes": r.bytes} for r in removals])
