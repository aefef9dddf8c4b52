"""Trains the model that comes with edgemoe, and writes it as a GGUF file that llama.cpp was seen to compute alike.

    python tools/train_default_model.py ../shared/data/text/train.jsonl.xz more.jsonl -o edgemoe-stories-f16.gguf

Needs the extra "train" (PyTorch, tokenizers); a GPU is used where there is one. The work folder keeps the tokenizer,
the windows of tokens and a checkpoint: the same command goes on where it was stopped. The pack is made of the file with
tools/make_default_model.py, the figures with tools/evaluate_default_model.py.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
from tokenizers import Tokenizer

from default_model import stories
from default_model.dialogues import Writer
from default_model.export import check, export
from default_model.shape import Shape
from default_model.tokens import Encoder, train_tokenizer, write_windows
from default_model.train import Plan, train, trained

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.argument("texts", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=FILE, required=True, help="The GGUF file; it is replaced if it exists.")
@click.option(
    "--work", type=click.Path(file_okay=False, path_type=Path), help="Kept between calls.  [default: OUTPUT.work]"
)
@click.option("--steps", type=click.IntRange(min=1), default=4000, show_default=True, help="Of 8 windows each.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--minutes", type=float, help="Stop after so long; the same command goes on.")
@click.option("--layers", type=click.IntRange(min=1), default=Shape.layers, show_default=True)
@click.option("--context", type=click.IntRange(min=64), default=Shape.context, show_default=True)
@click.option("--vocabulary", type=click.IntRange(min=300), default=Shape.vocabulary, show_default=True)
@click.option("--dropout", type=float, default=Plan.dropout, show_default=True)
@click.option("--compile/--no-compile", "compiled", default=True, help="Faster steps, a later start.")
def main(
    texts: tuple[Path, ...], output: Path, work: Path | None, steps: int, seed: int, minutes: float | None, layers: int,
    context: int, vocabulary: int, dropout: float, compiled: bool,
) -> None:  # fmt: skip
    work = work or output.with_suffix(".work")
    work.mkdir(parents=True, exist_ok=True)
    shape = Shape(layers=layers, context=context, vocabulary=vocabulary)
    plan = replace(Plan(steps), seed=seed, dropout=dropout, compiled=compiled)
    try:
        tokenizer = prepare(texts, work, shape, plan)
        click.echo(f"{shape.parameters / 1e6:.1f} M parameters, {steps} steps of {plan.batch * context} tokens")
        if not train(work / "windows.npz", work, shape, plan, minutes=minutes):
            click.echo("stopped; the same command goes on")
            return
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    parameters = trained(work, shape, seed)
    export(parameters, tokenizer, shape, output)
    for line in check(parameters, tokenizer, shape, output, stories.load_training(texts)[:200]):
        click.echo(line)
    click.echo(f"{output}: {output.stat().st_size / 1e6:.2f} MB")


def prepare(texts: Sequence[Path], work: Path, shape: Shape, plan: Plan) -> Tokenizer:
    """The tokenizer and the windows of the run, made unless the work folder has them."""
    tokenizer_path, windows = work / "tokenizer.json", work / "windows.npz"
    if windows.exists():
        return Tokenizer.from_file(str(tokenizer_path))
    found = stories.load_training(texts)
    click.echo(f"{len(found)} stories, {sum(map(len, found)) / 1e6:.1f} MB")
    tokenizer = train_tokenizer(found, shape.vocabulary)
    tokenizer.save(str(tokenizer_path))
    rng = random.Random(plan.seed)
    writer = Writer(stories.read_stories(found, rarest=4000), rng)
    count = plan.steps * plan.batch
    partial = work / "partial.npz"
    write_windows(partial, writer, Encoder(tokenizer), rng, count=count, length=shape.context + 1, late=plan.late)
    partial.replace(windows)
    return tokenizer


if __name__ == "__main__":
    main()
