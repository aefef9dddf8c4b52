"""`edgemoe verify`: whether a pack is still what was written."""

from __future__ import annotations

import dataclasses

import click

from edgemoe.cli import options
from edgemoe.sizes import format_size

_SHOWN = 20


@click.command(short_help="Check every byte of a pack against its checksums.")
@click.argument("pack", type=options.MODEL_FILE)
@options.threads
@options.as_json
def command(pack: str, threads: int | None, as_json: bool) -> None:
    """Check every byte of PACK against its checksums, as after a download or a copy.

    What is damaged is named, and the exit code is 1. A file so damaged that it cannot be opened is code 2.

    Example: edgemoe verify model.mwq.gguf
    """
    from edgemoe.cli.console import byte_progress, print_json, quiet_library
    from edgemoe.packs.verify import verify

    quiet_library()
    with byte_progress("checking") as progress:
        found = verify(pack, threads=threads, progress=progress)
    if as_json:
        print_json({"ok": not found.damages} | dataclasses.asdict(found))
    elif not found.damages:
        click.echo(f"ok: {format_size(found.bytes)}, {found.extents} planes of experts")
    else:
        for damage in found.damages[:_SHOWN]:
            click.echo(damage)
        if len(found.damages) > _SHOWN:
            click.echo(f"... and {len(found.damages) - _SHOWN} more")
        click.echo(f"damaged: {len(found.damages)}; make the pack anew, or download it again")
    if found.damages:
        click.get_current_context().exit(1)
