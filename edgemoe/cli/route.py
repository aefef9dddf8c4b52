"""`edgemoe route`: the classifier of prompts, and who answers them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from edgemoe.cli import options
from edgemoe.cli.route_calibrate import calibrate
from edgemoe.cli.route_confidence import confidence
from edgemoe.cli.route_policy import decide, explain, feedback, init, short
from edgemoe.cli.route_simulate import simulate
from edgemoe.errors import EdgeMoEError, WriteError

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_ROUTER = click.option("--router", type=_FILE, help="A router.  [default: the one that comes with edgemoe]")


@click.group(
    short_help="Classify prompts, and decide who answers them.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def command() -> None:
    """Classify prompts: what they are about, and whether they need a strong model.

    Example: edgemoe route classify "How do I contest a parking ticket?"
    """


@command.command(short_help="Show what a router says of prompts.")
@click.argument("prompts", nargs=-1, required=True)
@_ROUTER
@options.as_json
def classify(prompts: tuple[str, ...], router: Path | None, as_json: bool) -> None:
    """Show what a router says of each of PROMPTS.

    Example: edgemoe route classify "How do I contest a parking ticket?"
    """
    from edgemoe.bench.tables import aligned
    from edgemoe.cli.console import print_json
    from edgemoe.routing.router import Router

    loaded = Router(router)
    found = [(prompt, loaded.classify(prompt)) for prompt in prompts]
    if as_json:
        print_json([{"prompt": p, "choices": c.choices, "scores": c.scores} for p, c in found])
        return
    rows = [("prompt", *loaded.labels)]
    for prompt, result in found:
        cells = []
        for head, choice in result.choices.items():
            scores = result.scores[head]
            binary = "yes" in scores
            cells.append(f"{scores['yes']:.0%}" if binary else f"{choice or '-'} {scores.get(choice or 'none', 0):.0%}")
        rows.append((short(prompt), *cells))
    click.echo(aligned(rows))


@command.command(short_help="Train a router on labelled prompts.")
@click.argument("data", nargs=-1, required=True, type=_FILE)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The router.")
@click.option("--head", default="domain", show_default=True, help="What `label` in DATA is the label of.")
@click.option("--open", "open_labels", multiple=True, metavar="LABEL", help="As 'none': all that is no other label.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed and rows give the same file.")
@click.option("--buckets", type=click.IntRange(256, 1 << 20), default=1 << 17, show_default=True, help="For n-grams.")
@click.option("--passes", type=click.FloatRange(min=0.1), default=6, show_default=True, help="Over the rows.")
@options.threads
def train(
    data: tuple[Path, ...],
    output: Path,
    head: str,
    open_labels: tuple[str, ...],
    seed: int,
    buckets: int,
    passes: float,
    threads: int | None,
) -> None:
    """Train a router on DATA: JSON lines with "text" and "label" (or "labels", an object of heads and their labels).

    A label is a text (one of several classes) or a number from 0 to 1 (a probability). The label "none" is for
    prompts that belong to no class. "source" says where a line is from; thresholds are tuned on sources that were
    held out. "split" is train, dev or test; lines of test are not used.

    Example: edgemoe route train prompts.jsonl -o mine.onnx --head tool
    """
    from edgemoe.cli.console import working
    from edgemoe.machine import processors
    from edgemoe.routing.export import to_onnx
    from edgemoe.routing.features import Hashing
    from edgemoe.routing.rows import read_rows
    from edgemoe.routing.training import Options, train_router

    _check_output(output, data)
    rows = read_rows(data, head)
    chosen = Options(seed, open_labels, passes=passes, threads=threads or processors())
    with working("training"):
        model = train_router(
            rows, Hashing(buckets), chosen, lambda message: click.echo(f"edgemoe: {message}", err=True)
        )
    about = {"seed": seed, "passes": passes, "rows": len(rows)}
    try:
        output.write_bytes(to_onnx(model, about))
    except OSError as error:
        raise WriteError(f"{output} cannot be written: {error.strerror}") from error
    for trained in model.heads:
        click.echo(f"{trained.name}: {', '.join(trained.labels)}")


def _check_output(output: Path, data: tuple[Path, ...]) -> None:
    """Before the work: an output that is no input, and that can be written."""
    if output.exists() and any(output.samefile(path) for path in data):
        raise click.BadParameter(f"{output} is one of the inputs, and would be overwritten", param_hint="--output")
    writable = os.access(output if output.exists() else output.parent, os.W_OK)
    if not writable:
        raise WriteError(f"{output} cannot be written: the folder is missing, or writing is not permitted")


@command.command(name="eval", short_help="Measure a router on labelled prompts.")
@click.argument("data", nargs=-1, type=_FILE)
@_ROUTER
@click.option("--benchmarks", type=_FOLDER, help="Also GQR-Bench and routing, from this folder of collected data.")
@click.option("--head", default="domain", show_default=True, help="What `label` in DATA is the label of.")
@options.plots("quality by the share of prompts sent to the strong model")
@options.as_json
def evaluate(
    data: tuple[Path, ...],
    router: Path | None,
    benchmarks: Path | None,
    head: str,
    plots: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Measure a router: on the test lines of DATA (on all, if none is marked test), on benchmarks, and its speed.

    Lines with the numbers "weak" and "strong" (from 0 to 1: how good the answers of a small and of a big model are)
    show what sending prompts to the big model is worth, beside an order by length, by chance, and by an oracle.

    Example: edgemoe route eval rated.jsonl --plot curves.html
    """
    from edgemoe.bench.plot import check_plot, write_report
    from edgemoe.cli.console import print_json
    from edgemoe.cli.route_tables import curves_report, print_evaluation
    from edgemoe.routing.evaluation import answered, answered_rows, evaluate_benchmarks, evaluate_rows, measure
    from edgemoe.routing.local_or_cloud import Comparison
    from edgemoe.routing.router import STRONG, Router
    from edgemoe.routing.rows import read_rows

    for path in plots:
        check_plot(path)
    loaded = Router(router)
    found: dict[str, Any] = {"router": str(loaded.path), "speed": measure(loaded.path)}
    rows = read_rows(data, head)
    prompts = answered_rows(rows) + (answered(benchmarks) if benchmarks and STRONG in loaded.labels else [])
    if plots and not prompts:
        raise click.BadParameter('there is nothing to draw: no line has "weak" and "strong"', param_hint="--plot")
    if data:
        found["heads"] = evaluate_rows(loaded, rows)
        if not found["heads"] and not prompts:
            raise EdgeMoEError(f"no line has a label of this router's heads: {', '.join(loaded.labels)}")
    if benchmarks:
        found["benchmarks"] = evaluate_benchmarks(loaded, benchmarks)
    if prompts:
        comparison = Comparison(loaded, prompts)
        found["local or cloud"] = comparison.figures()
        for path in plots:
            write_report(path, curves_report(loaded.path.name, comparison))
    if as_json:
        print_json(found)
    else:
        print_evaluation(found)


for verb in (calibrate, confidence, decide, explain, feedback, init, simulate):
    command.add_command(verb)
