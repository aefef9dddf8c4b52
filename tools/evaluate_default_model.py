"""Measures default models, and prints the figures side by side.

    python tools/evaluate_default_model.py OLD.gguf NEW.gguf --held-out valid.txt --training train.jsonl.xz

The stories to judge by are the TinyStories of valid.txt, which no model was trained on. Perplexity is for each
token of the first model named, so that another tokenizer makes no difference. --save keeps the figures of the last
model, and --beside prints kept ones in the first column, for a model whose file is gone.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from default_model import evaluate
from default_model.held_out import load_held_out
from default_model.stories import read_stories
from edgemoe import Llama

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.argument("models", type=FILE, nargs=-1, required=True)
@click.option("--held-out", type=FILE, required=True, help="Stories between lines <|endoftext|>.")
@click.option("--training", type=FILE, required=True, help="Stories with their sources, as JSON lines.")
@click.option("--beside", type=FILE, help="Figures of an earlier call.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Keep the figures of the last model.")
@click.option("--cases", type=click.IntRange(min=1), default=evaluate.CASES, show_default=True)
@click.option("--stories", "limit", type=click.IntRange(min=1), help="Held-out stories to read.  [default: all]")
@click.option("--seed", type=int, default=1, show_default=True)
def main(
    models: tuple[Path, ...], held_out: Path, training: Path, beside: Path | None, save: Path | None, cases: int,
    limit: int | None, seed: int,
) -> None:  # fmt: skip
    texts = load_held_out(held_out, training)[:limit]
    columns = [json.loads(beside.read_text())] if beside else []
    for path in models:
        columns.append(figures(path, texts, columns[0]["tokens"] if columns else None, cases, seed))
    print_table(columns)
    if save:
        save.write_text(json.dumps(columns[-1], indent=1) + "\n")


def figures(path: Path, texts: list[str], tokens: int | None, cases: int, seed: int) -> dict[str, Any]:
    """Of one model."""
    llama = Llama(str(path), logits_all=True, n_ctx=0, verbose=False)
    value, bits, counted = evaluate.perplexity(llama, texts, tokens)
    reader = evaluate.Reader(Llama(str(path), n_ctx=0, verbose=False), seed)
    stories = read_stories(texts)
    talk, said = evaluate.small_talk(reader)
    measures = [
        *evaluate.stories_about(reader, stories, cases),
        *evaluate.stories_with_words(reader, stories, cases),
        *evaluate.follow_ups(reader, cases),
        talk,
        evaluate.ten_turns(reader),
    ]
    for request, answer in said:
        click.echo(f"{path.name}: {request} -> {answer}", err=True)
    return {
        "model": path.name, "perplexity": value, "bits": bits, "tokens": counted, "bytes": path.stat().st_size,
        "measures": [asdict(one) for one in measures],
    }  # fmt: skip


def print_table(columns: list[dict[str, Any]]) -> None:
    """In Markdown, a column for each model."""
    click.echo("| | target | " + " | ".join(column["model"] for column in columns) + " |")
    click.echo("|---|---|" + "---|" * len(columns))

    def row(name: str, target: str, cells: list[str]) -> None:
        click.echo(f"| {name} | {target} | " + " | ".join(cells) + " |")

    row("perplexity", "at most 6.3", [f"{column['perplexity']:.3f}" for column in columns])
    row("bits for each byte", "", [f"{column['bits']:.4f}" for column in columns])
    for number, first in enumerate(columns[-1]["measures"]):
        cells = [f"{one['count']}" for one in (column["measures"][number] for column in columns)]
        row(first["name"], f"{first['target']} of {first['cases']}", cells)
    row("file", "at most 60 MB", [f"{column['bytes'] / 1e6:.2f} MB" for column in columns])


if __name__ == "__main__":
    main()
