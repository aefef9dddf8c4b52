"""`edgemoe unpack`: a plain GGUF from a pack."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from edgemoe.cli import options
from edgemoe.sizes import format_size


@click.command(short_help="Write the model in a pack as a plain GGUF.")
@click.argument("pack", type=options.MODEL_FILE)
@click.option("--level", type=int, metavar="N", help="Which bits of the experts to use.  [default: all]")
@click.option("-o", "--output", required=True, metavar="FILE", help="The GGUF to write.")
@click.option(
    "--type", "type_", metavar="TYPE", help="Of experts: F16, Q8_0 or F32.  [default: the source's own, or F16]"
)
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@options.threads
@options.as_json
def command(
    pack: str, level: int | None, output: str, type_: str | None, overwrite: bool, threads: int | None, as_json: bool
) -> None:
    """Write the model in PACK as a plain GGUF, which any program that runs GGUF models reads.

    Sliced experts come back as they were, byte by byte, when all of their levels are used. Otherwise they are what that
    level makes of them, in F16 or --type: the file shows what a level is worth, and is larger than the pack.

    Example: edgemoe unpack model.mwq.gguf --level 3 -o model-level3.gguf
    """
    from edgemoe.cli.console import print_json, print_rows, progress_bar, quiet_library
    from edgemoe.packs.unpack import unpack

    quiet_library()
    try:
        with progress_bar("experts") as progress:
            done = unpack(pack, level, output, type_=type_, threads=threads, overwrite=overwrite, progress=progress)
    except KeyboardInterrupt:
        click.echo(f"edgemoe: stopped: the same command goes on from what {output}.partial holds", err=True)
        raise
    for note in done.notes:
        click.echo(f"edgemoe: note: {note}", err=True)
    if as_json:
        print_json(dataclasses.asdict(done))
        return
    types = ", ".join(f"{name} in {count} tensors" for name, count in done.types.items())
    print_rows(
        [
            ("model", str(Path(output))),
            ("size", format_size(done.bytes)),
            ("experts", f"level {done.level}: {types}"),
            ("time", f"{done.seconds:.1f} s"),
        ]
    )
