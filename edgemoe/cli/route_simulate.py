"""`edgemoe route simulate`: what feedback would bring."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgemoe.cli import options

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Simulate learning from feedback.")
@click.argument("data", nargs=-1, required=True, type=_FILE)
@click.option(
    "--cloud-share", type=click.FloatRange(0, 1, True, True), default=0.2, show_default=True, help="Prompts it may get."
)
@click.option(
    "--local", type=click.IntRange(min=0), multiple=True, metavar="N", help="A local model's place in `scores`."
)
@click.option(
    "--cloud", type=click.IntRange(min=0), multiple=True, metavar="N", help="A cloud model's place in `scores`."
)
@click.option("--rated", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Share of answers rated.")
@click.option("--orders", type=click.IntRange(min=1), default=10, show_default=True, help="Of the prompts, random.")
@click.option("--split", help="Only these lines: train, dev or test.  [default: all]")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the orders.")
@click.option("--router", type=_FILE, help="A router.  [default: the one that comes with edgemoe]")
@options.as_json
def simulate(
    data: tuple[Path, ...],
    cloud_share: float,
    local: tuple[int, ...],
    cloud: tuple[int, ...],
    rated: float,
    orders: int,
    split: str | None,
    seed: int,
    router: Path | None,
    as_json: bool,
) -> None:
    """Simulate feedback: stream the prompts of DATA and learn from the answers that were chosen.

    DATA is JSON lines with "text" and how good (0 to 1) a local and a cloud model's answers were, "weak" and
    "strong", or "scores", a list for more models. The threshold that is compared with uses the first --local and the
    first --cloud model, and spends the same.

    Example: edgemoe route simulate rated.jsonl --cloud-share 0.2
    """
    from edgemoe.cli.console import print_json
    from edgemoe.routing.router import Router
    from edgemoe.routing.rows import read_rows
    from edgemoe.routing.simulation import routes_of, simulate, stream_of

    loaded = Router(router)
    rows = [row for row in read_rows(data, "label") if split in (None, row.split)]
    stream = stream_of(loaded, rows, routes_of(local, cloud))
    found = simulate(loaded, stream, budget=cloud_share, orders=orders, rated=rated, seed=seed)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _print(found: Mapping[str, Any]) -> None:
    from edgemoe.bench.tables import aligned

    names = {"static": "threshold", "feedback": "with feedback", "hindsight": "best in hindsight", "oracle": "oracle"}
    parts = [f"part {i + 1}" for i in range(len(found["regret"]["static"]))]
    rows = [("", "quality", *(f"regret, {part}" for part in parts))]
    for name, shown in names.items():
        regret = [f"{value:+.4f}" for value in found["regret"].get(name, [])]
        rows.append((shown, f"{found['quality'][name]:.4f}", *(regret or [""] * len(parts))))
    click.echo(f"{found['prompts']} prompts in {found['orders']} orders, {found['cloud share']:.1%} to the cloud")
    click.echo(aligned(rows))
    click.echo(f"gain over the threshold {found['gain over static']:+.4f} +- {found['standard error']:.4f}")
