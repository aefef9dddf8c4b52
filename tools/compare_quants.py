"""Compares packs with quants of one size: the quality of each, and how many bits it takes.

    python tools/compare_quants.py MODEL --text FILE --work FOLDER

MODEL should be F16, BF16 or F32. It is calibrated once. Its experts
are then quantized by llama.cpp's own quantizer with that importance, encoded as T16 with GPTQ, with calibration alone
and with neither, and the quants are cut into slices. What is no expert stays as it is. Predictions are compared with
MODEL's, which are kept in FOLDER: 2 bytes for each token and entry of the vocabulary. The same command goes on with
what an interrupted one left in FOLDER; what the program would now make otherwise is made anew.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import click

from edgemoe.calibrate import default_text
from edgemoe.cli.console import quiet_library, read_text
from edgemoe.errors import EdgeMoEError
from quants.evaluation import Evaluation
from quants.options import Levels
from quants.variants import TYPES, Row, Variants
from quants.work import Work

NEAR = 0.4
"""Bits per weight by which a quant may differ from a pack that is compared with it."""
COLUMNS = ("", "bits per weight", "stored", "perplexity", "KL divergence", "same first choice", "divided by that of")


class Types(click.ParamType):
    name = "types"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[str]:
        types = value.upper().split(",")
        if unknown := [name for name in types if name not in TYPES]:
            self.fail(f"{unknown[0]!r} is none of {', '.join(TYPES)}", param, ctx)
        return types


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--text", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="To predict.")
@click.option("--tokens", type=click.IntRange(min=2), metavar="N", help="Of the text.  [default: all]")
@click.option(
    "--calibrate",
    "calibration",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Text to calibrate with.  [default: the one that comes with edgemoe]",
)
@click.option("--types", type=Types(), default=",".join(TYPES), show_default=True, help="Quants to make.")
@click.option("--levels", type=Levels(), default="2,3,4", show_default=True, help="Of T16 packs.")
@click.option("--gptq/--no-gptq", default=True, help="Whether a pack with GPTQ is made, too.")
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), help="Folder of what is made; kept.")
@click.option("--json", "as_json", is_flag=True)
def main(
    model: Path,
    text: Path,
    tokens: int | None,
    calibration: Path | None,
    types: list[str],
    levels: tuple[int, ...],
    gptq: bool,
    work: Path | None,
    as_json: bool,
) -> None:
    quiet_library()
    with ExitStack() as stack:
        try:
            folder = Work(work or Path(stack.enter_context(tempfile.TemporaryDirectory())))
            known = read_text(calibration) if calibration else default_text()
            variants = Variants(model, known, levels, gptq=gptq, work=folder)
            evaluation = Evaluation(model, read_text(text), tokens, folder)
            rows = list(measured(variants, types, evaluation))
        except EdgeMoEError as error:
            raise click.ClickException(str(error)) from error
    click.echo(json.dumps(rows, indent=2) if as_json else table(rows))


def measured(variants: Variants, types: list[str], evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Every row with its figures, and its divergence divided by those of quants about as large."""
    known: dict[Row, float] = {}
    types = variants.fitting(types)
    for row in chain(variants.dedicated(types), variants.t16(), variants.slices(types)):
        figures = evaluation.of(row)
        divergence = figures["kl_divergence"]
        if row.level is None:
            known[row] = divergence
        click.echo(f"{row.label}: {row.bits:.4f} bits, KL divergence {divergence:.5f}", err=True)
        rivals = [other for other in known if row.level and abs(other.bits - row.bits) < NEAR and known[other]]
        ratios = {other.name: divergence / known[other] for other in rivals}
        yield dataclasses.asdict(row) | {"path": str(row.path), "label": row.label, "ratios": ratios} | figures


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, under a line that says what was measured."""
    first = rows[0]
    lines = [
        f"{first['tokens']} predictions in {first['windows']} windows of {first['n_ctx']} tokens; the reference's "
        f"perplexity is {first['reference_perplexity']:.3f}",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---" * len(COLUMNS) + "|",
    ]
    return "\n".join(lines + ["| " + " | ".join(cells(row)) + " |" for row in rows])


def cells(row: dict[str, Any]) -> list[str]:
    return [
        row["label"],
        f"{row['bits']:.4f}",
        f"{row['stored']:.3f}",
        f"{row['perplexity']:.3f}",
        f"{row['kl_divergence']:.5f}",
        f"{row['top_agreement']:.2%}",
        ", ".join(f"{name} {ratio:.2f}" for name, ratio in row["ratios"].items()),
    ]


if __name__ == "__main__":
    main()
