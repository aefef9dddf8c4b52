"""`edgemoe bench`: speed and peak memory under several budgets."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgemoe.cli import options
from edgemoe.errors import EdgeMoEError

if TYPE_CHECKING:
    from edgemoe.bench.measure import Job, Measurement
    from edgemoe.bench.peers import Peer

SYSFS = Path("/sys")
"""Where sysfs is."""
_IDLE_SECONDS = 3.0


@click.command(short_help="Measure the speed, hit rate and memory of a model.")
@click.argument("model", type=options.MODEL_FILE)
@click.option("--memory", metavar="SIZE,...", default="auto", show_default=True, help="Budgets of the process.")
@options.cache
@click.option(
    "--quality",
    metavar="QUALITY,...",
    default="exact",
    show_default=True,
    help="One or several, as elsewhere: exact, and of a pack balanced, fixed:2 and so on.",
)
@click.option("--parallel", metavar="N,...", help="Decode so many sequences together, each with a text of its own.")
@click.option(
    "--prompt-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    default=128,
    show_default=True,
    help="Length of the prompt.",
)
@click.option("--tokens", type=click.IntRange(min=2), metavar="N", default=64, show_default=True, help="To generate.")
@click.option(
    "--repeat", type=click.IntRange(min=1), metavar="R", default=3, show_default=True, help="Runs to take medians of."
)
@options.threads
@click.option("--ctx", type=click.IntRange(min=3), metavar="N", help="Tokens of context.  [default: prompt and answer]")
@click.option("--text", "text_file", type=options.FILE, help="The prompt's source.  [default: English prose]")
@click.option("--stock", is_flag=True, help="Measure plain llama.cpp, which maps the file, too.")
@click.option("--energy", is_flag=True, help="Measure joules per token, where the machine tells them.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "md"]),
    default="table",
    show_default=True,
    help="How the results are printed.",
)
@options.as_json
@options.ray
@options.plots("speed, time and experts in memory")
@click.option(
    "--peer-csv",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw other programs' figures, too: columns name, budget, tok_s.",
)
def command(
    model: str,
    memory: str,
    cache: str | None,
    quality: str,
    parallel: str | None,
    prompt_tokens: int,
    tokens: int,
    repeat: int,
    threads: int | None,
    ctx: int | None,
    text_file: str | None,
    stock: bool,
    energy: bool,
    output: str,
    as_json: bool,
    ray: str | None,
    plots: tuple[Path, ...],
    peer_csv: Path | None,
) -> None:
    """Measure load time, prompt and decode speed, hit rate and peak memory of MODEL.

    Each setting is measured in a process of its own, so that the peak is its own. Decoding is greedy. With --ray each
    machine measures one at a time, of the file that is called MODEL there.

    Example: edgemoe bench model.gguf --memory 2GiB,4GiB
    """
    from edgemoe.bench.measure import Job, measure_all

    if as_json and output == "md":
        raise click.UsageError("--json and -o md: choose one of them")
    needed = prompt_tokens + tokens
    if ctx is not None and ctx < needed:
        message = f"{ctx} tokens do not hold the prompt and the answer: at least {needed}"
        raise click.BadParameter(message, param_hint="--ctx")
    if energy and ray is not None:
        raise click.UsageError("--energy measures this machine, and --ray others: choose one of them")
    sequences = _sequences(parallel)
    peers = _prepare(plots, peer_csv, sequences)
    text = _text(text_file, sequences)
    common = Job("", model, None, prompt_tokens, tokens, repeat, ctx or needed, text, threads, cache)
    idle = _idle_watts() if energy else None
    root = None if idle is None else str(SYSFS)
    common = dataclasses.replace(common, residency=bool(plots), energy=root)
    jobs = [
        dataclasses.replace(common, label=budget, memory=budget, quality=wanted, sequences=count)
        for budget, wanted, count in itertools.product(_budgets(memory), _parts(quality, "--quality"), sequences)
    ]
    if stock:
        jobs.append(_stock(common, sequences))
    progress = _Progress(len(jobs)).tell
    if ray is None:
        results = measure_all(jobs, progress)
    else:
        from edgemoe.serving.tasks import join

        with join(ray) as cluster:
            results = measure_all(jobs, progress, cluster.measure)
    results = [dataclasses.replace(result, idle_watts=idle) for result in results]
    _print(results, "json" if as_json else output)
    for path in plots:
        from edgemoe.bench.plot import write_plot

        write_plot(path, Path(model).name, results, peers)


def _idle_watts() -> float | None:
    """What the machine takes before anything runs, in watts; None where it cannot tell, which is said on stderr."""
    from edgemoe.bench.energy import describe, find_sources, idle_watts

    try:
        sources = find_sources(SYSFS)
        idle = idle_watts(sources, _IDLE_SECONDS)
    except EdgeMoEError as error:
        click.echo(f"edgemoe: {error}", err=True)
        return None
    click.echo(f"edgemoe: energy is that of {describe(sources)}, {idle:.2f} W before anything ran", err=True)
    return idle


def _print(results: Sequence[Measurement], output: str) -> None:
    from edgemoe.bench.tables import markdown, plain
    from edgemoe.cli.console import print_json

    if output == "json":
        print_json([dataclasses.asdict(result) for result in results])
    else:
        click.echo(markdown(results) if output == "md" else plain(results))


class _Progress:
    def __init__(self, total: int) -> None:
        self._total = total
        self._started = 0

    def tell(self, job: Job) -> None:
        self._started += 1
        click.echo(f"[{self._started}/{self._total}] measuring {job.title}", err=True)


def _prepare(plots: Sequence[Path], peer_csv: Path | None, sequences: Sequence[int | None]) -> list[Peer]:
    """The peers to draw. What would keep plots from being drawn is an error now, not after the measurements."""
    from edgemoe.bench.peers import read_peers
    from edgemoe.bench.plot import check_plot

    for path in plots:
        check_plot(path)
    if peer_csv is None:
        return []
    if not plots:
        raise click.BadParameter("there is nothing to draw them in: add --plot FILE", param_hint="--peer-csv")
    if sequences != [None]:
        message = "they are drawn by memory budget, and --parallel by sequences: use one of the two"
        raise click.BadParameter(message, param_hint="--peer-csv")
    return read_peers(peer_csv)


def _stock(common: Job, sequences: Sequence[int | None]) -> Job:
    from edgemoe.packs.summary import open_model

    if open_model(common.model).levels:
        message = "llama.cpp cannot run packs: measure the model that it was made of"
        raise click.BadParameter(message, param_hint="--stock")
    if sequences != [None]:
        raise click.BadParameter("llama.cpp is measured with one sequence: leave out --parallel", param_hint="--stock")
    return dataclasses.replace(common, label="llama.cpp", stock=True)


def _parts(value: str, option: str) -> list[str]:
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not parts:
        raise click.BadParameter("name at least one", param_hint=option)
    return list(dict.fromkeys(parts))


def _budgets(memory: str) -> list[str]:
    from edgemoe.sizes import parse_size

    budgets = _parts(memory, "--memory")
    for budget in budgets:
        if budget != "auto":
            parse_size(budget, whole=1 << 40)
    return budgets


def _sequences(parallel: str | None) -> list[int | None]:
    if parallel is None:
        return [None]
    counts: list[int | None] = []
    for part in _parts(parallel, "--parallel"):
        if not part.isdecimal() or not 1 <= int(part) <= 256:
            message = f"{part!r} is no number of sequences: use 1 to 256, as in 1,4,8"
            raise click.BadParameter(message, param_hint="--parallel")
        counts.append(int(part))
    return counts


def _text(path: str | None, sequences: Sequence[int | None]) -> str:
    from edgemoe.bench.texts import ENGLISH
    from edgemoe.default_model import calibration_text_path

    if path is None:  # many sequences need a text that is long enough for each to have its own piece
        return ENGLISH if sequences == [None] else calibration_text_path().read_text(encoding="utf-8")
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    if not text.strip():
        raise EdgeMoEError(f"{path} is empty: prompts are cut from it")
    return text
