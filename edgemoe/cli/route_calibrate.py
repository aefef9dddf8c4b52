"""`edgemoe route calibrate`: which prompts are worth a strong model's price."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from edgemoe.cli import options

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Find the threshold for a share of prompts, or a budget.")
@click.argument("prompts", nargs=-1, type=_FILE)
@click.option("--cloud-share", type=click.FloatRange(0, 1), metavar="SHARE", help="Send this share to the cloud: 0.2.")
@click.option("--budget", metavar="MONEY/UNIT", help="Spend at most this: 1.50/day, 10/week, 30/month.")
@click.option(
    "--prompts-per-day",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="For --budget.  [default: the configuration's]",
)
@click.option(
    "--input-price",
    type=click.FloatRange(min=0),
    metavar="PRICE",
    help="Of a million tokens of prompts.  [default: the configuration's]",
)
@click.option(
    "--output-price",
    type=click.FloatRange(min=0),
    metavar="PRICE",
    help="Of a million tokens of answers; for --budget.  [default: the configuration's]",
)
@click.option(
    "--answer-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="How long an answer is taken to be.  [default: the configuration's]",
)
@click.option("--router", type=_FILE, help="A router.  [default: the configuration's]")
@options.config
@click.option("--write", is_flag=True, help="Put the threshold into the configuration.")
@options.as_json
def calibrate(
    prompts: tuple[Path, ...],
    cloud_share: float | None,
    budget: str | None,
    prompts_per_day: float | None,
    input_price: float | None,
    output_price: float | None,
    answer_tokens: int | None,
    router: Path | None,
    config: Path | None,
    write: bool,
    as_json: bool,
) -> None:
    """Find the threshold that sends a share of prompts to the cloud, or as many as a budget pays for.

    PROMPTS are your own, JSON lines with "text"; without them, prompts that come with edgemoe stand in for them. What
    is printed last is a line for the configuration, which --write puts there. Prompts that need more than the local
    model at least as probably as the threshold says go to the cloud, if privacy and rules let them. The models, their
    "ability" and prices are the configuration's.

    \b
    Examples: edgemoe route calibrate --cloud-share 0.2
              edgemoe route calibrate --budget 1.50/day --output-price 10 --prompts-per-day 500
    """
    from edgemoe.config import config_path, load_config, store_threshold
    from edgemoe.default_model import prompts_path
    from edgemoe.routing.router import Router
    from edgemoe.routing.rows import read_rows
    from edgemoe.routing.threshold import for_cost, for_share, priced, weighed

    if (cloud_share is None) == (budget is None):
        raise click.UsageError("give one of --cloud-share and --budget")
    money = _a_day(budget) if budget is not None else None
    settings = load_config(config)
    per_day = prompts_per_day or settings.prompts_per_day
    settings = priced(settings, input_price, output_price)
    settings = replace(settings, answer_tokens=answer_tokens or settings.answer_tokens)
    free = not any(model.endpoint.output_price for model in settings.cloud.values())
    if money is not None and (free or per_day is None):
        raise click.UsageError(
            "--budget needs --output-price (of a million tokens) and --prompts-per-day, or output_price of a [cloud] "
            "model and prompts_per_day in the configuration"
        )
    texts = [row.text for row in read_rows(prompts or (prompts_path(),), "label")]
    scores, costs = weighed(settings, Router(router or settings.router), texts)
    if money is None:
        found = for_share(scores, cloud_share or 0.0, costs)
    else:
        found = for_cost(scores, costs, money / (per_day or 1.0))
    values: dict[str, Any] = asdict(found)
    if per_day is not None:
        values["cost a day"] = found.cost * per_day
    if write:
        path = config or config_path()
        store_threshold(path, found.value)
        click.echo(f"edgemoe: written to {path}", err=True)
    _print(values, as_json)


def _a_day(text: str) -> float:
    from edgemoe.cloud import Budget

    try:
        return Budget.parse(text).per_day
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no budget: it must be {error}", param_hint="--budget") from None


def _print(values: dict[str, Any], as_json: bool) -> None:
    from edgemoe.cli.console import print_json, print_rows

    if as_json:
        print_json(values)
        return
    rows = [
        ("to the cloud", f"{values['share']:.1%} of {values['prompts']} prompts"),
        ("cost of a prompt", f"{values['cost']:.6f}"),
    ]
    if "cost a day" in values:
        rows.append(("cost a day", f"{values['cost a day']:.2f}"))
    print_rows(rows if values["cost"] else rows[:1])
    click.echo(f"threshold = {values['value']}")
