"""`edgemoe bench`: speed and peak memory under several budgets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgemoe.cli import options
from edgemoe.errors import EdgeMoEError

if TYPE_CHECKING:
    from edgemoe.bench.measure import Job


@click.command()
@click.argument("model", type=options.MODEL_FILE)
@click.option("--memory", metavar="SIZE,...", default="auto", show_default=True, help="Budgets of the process.")
@options.cache
@options.quality
@click.option("--prompt-tokens", type=click.IntRange(min=1), metavar="N", default=128, show_default=True)
@click.option("--tokens", type=click.IntRange(min=2), metavar="N", default=64, show_default=True, help="To generate.")
@click.option(
    "--repeat", type=click.IntRange(min=1), metavar="R", default=3, show_default=True, help="Runs to take medians of."
)
@options.threads
@click.option("--ctx", type=click.IntRange(min=3), metavar="N", help="Tokens of context.  [default: prompt and answer]")
@click.option("--text", "text_file", type=options.MODEL_FILE, help="The prompt's source.  [default: English prose]")
@click.option("--stock", is_flag=True, help="Measure plain llama.cpp, which maps the file, too.")
@click.option("-o", "--output", type=click.Choice(["table", "json", "md"]), default="table", show_default=True)
def command(
    model: str,
    memory: str,
    cache: str | None,
    quality: str,
    prompt_tokens: int,
    tokens: int,
    repeat: int,
    threads: int | None,
    ctx: int | None,
    text_file: str | None,
    stock: bool,
    output: str,
) -> None:
    """Measure load time, prompt and decode speed, hit rate and peak memory of MODEL.

    Each budget is measured in a process of its own, so that the peak is its own. Decoding is greedy.
    """
    from edgemoe.bench.measure import Job, measure_all
    from edgemoe.packs.summary import open_model

    needed = prompt_tokens + tokens
    if ctx is not None and ctx < needed:
        message = f"{ctx} tokens do not hold the prompt and the answer: at least {needed}"
        raise click.BadParameter(message, param_hint="--ctx")
    common = Job(
        "", model, None, prompt_tokens, tokens, repeat, ctx or needed, _text(text_file), threads, cache, quality
    )
    jobs = [dataclasses.replace(common, label=budget, memory=budget) for budget in _budgets(memory)]
    if stock:
        if open_model(model).levels:
            message = "llama.cpp cannot run packs: measure the model that it was made of"
            raise click.BadParameter(message, param_hint="--stock")
        jobs.append(dataclasses.replace(common, label="llama.cpp", stock=True))
    results = measure_all(jobs, _Progress(len(jobs)).tell)
    if output == "json":
        from edgemoe.cli.console import print_json

        print_json([dataclasses.asdict(result) for result in results])
        return
    from edgemoe.bench.tables import markdown, plain

    click.echo(markdown(results) if output == "md" else plain(results))


class _Progress:
    def __init__(self, total: int) -> None:
        self._total = total
        self._started = 0

    def tell(self, job: Job) -> None:
        self._started += 1
        click.echo(f"[{self._started}/{self._total}] measuring {job.label}", err=True)


def _budgets(memory: str) -> list[str]:
    from edgemoe.sizes import parse_size

    budgets = [part.strip() for part in memory.split(",") if part.strip()]
    if not budgets:
        raise click.BadParameter("name at least one budget", param_hint="--memory")
    for budget in budgets:
        if budget != "auto":
            parse_size(budget, whole=1 << 40)
    return budgets


def _text(path: str | None) -> str:
    from edgemoe.bench.texts import ENGLISH

    if path is None:
        return ENGLISH
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    if not text.strip():
        raise EdgeMoEError(f"{path} is empty: prompts are cut from it")
    return text
