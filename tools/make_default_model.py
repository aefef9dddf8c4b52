"""Makes the pack that comes with edgemoe of the model that was trained.

    python tools/make_default_model.py tinystories-moe-f16.gguf -o models/tinystories-moe.mwq.gguf

T16 with GPTQ and heads, calibrated with the fables that come with edgemoe. The same program, source and processor give
the same bytes, whatever the number of threads; other processors may round otherwise while the model reads the text.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from edgemoe.calibrate import Calibration
from edgemoe.cli.console import byte_progress, print_rows, progress_bar, quiet_library, read_text
from edgemoe.cli.pack import level_rows
from edgemoe.default_model import calibration_text_path
from edgemoe.errors import EdgeMoEError
from edgemoe.level_heads import HeadTrainer
from edgemoe.packs.plan import Settings
from edgemoe.packs.verify import verify
from edgemoe.packs.writer import pack
from edgemoe.sizes import format_size
from quants.options import Levels
from quants.work import hash_files

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=FILE, required=True, help="The pack; it is replaced if it exists.")
@click.option("--levels", type=Levels(), default="2,3,4", show_default=True)
@click.option("--calibrate", "text", type=FILE, help="Text to calibrate with.  [default: the fables]")
@click.option("--threads", type=click.IntRange(min=1), help="To encode with.  [default: cores]")
def main(source: Path, output: Path, levels: tuple[int, ...], text: Path | None, threads: int | None) -> None:
    quiet_library()
    try:
        read = read_text(text or calibration_text_path())
        with progress_bar("calibrating") as progress:
            calibration = Calibration(source, read, progress=progress)
        heads = HeadTrainer(read, threads=threads)
        settings = Settings(levels, requantize=True, calibration=calibration, heads=heads, threads=threads)
        with byte_progress(f"packing {source.name}") as progress:
            made = pack(source, output, settings, overwrite=True, progress=progress)
        if damages := verify(output).damages:
            raise EdgeMoEError(f"{output}: {damages[0]}")
    except (EdgeMoEError, MemoryError) as error:
        raise click.ClickException(str(error)) from error
    rows = [("pack", os.fspath(output)), ("size", format_size(made.bytes)), ("xxh3", hash_files(output))]
    print_rows([*rows, *level_rows(made.report.levels)])


if __name__ == "__main__":
    main()
