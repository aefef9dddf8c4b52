"""`edgemoe route decide`, `explain`, `init` and `feedback`: who answers a prompt, and why."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgemoe.cli import options

if TYPE_CHECKING:
    from edgemoe.routing.policy import Decision

_LOCAL_ONLY = click.option("--local-only", is_flag=True, help="As if nothing may leave this machine.")


@click.command(short_help="Show who would answer prompts; nobody is asked.")
@click.argument("prompts", nargs=-1, required=True)
@options.config
@_LOCAL_ONLY
@options.as_json
def decide(prompts: tuple[str, ...], config: Path | None, local_only: bool, as_json: bool) -> None:
    """Show who would answer each of PROMPTS. Nobody is asked.

    Example: edgemoe route decide "How do I contest a parking ticket?" "Hello."
    """
    from edgemoe.bench.tables import aligned
    from edgemoe.cli.console import print_json
    from edgemoe.config import load_config
    from edgemoe.routing.decider import Decider

    decider = Decider(load_config(config))
    found = [(prompt, decider.decide(prompt, local_only=local_only)) for prompt in prompts]
    if as_json:
        print_json([{"prompt": prompt} | dataclasses.asdict(decision) for prompt, decision in found])
        return
    rows = [("prompt", "route", "who", "rule", "cost")]
    rows += [(short(p), d.route, d.target or "-", d.rule, f"{d.cost:.4f}") for p, d in found]
    click.echo(aligned(rows))


@click.command(short_help="Show who would answer a prompt, and why.")
@click.argument("prompt")
@options.config
@_LOCAL_ONLY
@options.as_json
def explain(prompt: str, config: Path | None, local_only: bool, as_json: bool) -> None:
    """Show who would answer PROMPT, and why: the scores, the words that moved them, the rule, and the cost.

    A word's number is by how much it raises the log-odds of the label: each is left out in turn.

    Example: edgemoe route explain "How do I contest a parking ticket?"
    """
    from edgemoe.cli.console import print_json, print_rows
    from edgemoe.config import load_config
    from edgemoe.routing.decider import Decider

    decision = Decider(load_config(config)).explain(prompt, local_only=local_only)
    if as_json:
        print_json({"prompt": prompt} | dataclasses.asdict(decision))
    else:
        print_rows(_rows(decision))


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def init(file: Path | None, force: bool) -> None:
    """Write a commented configuration to FILE.

    Without FILE it goes where edgemoe looks for it, ~/.config/edgemoe/config.toml.

    Example: edgemoe route init my.toml
    """
    from edgemoe.config import config_path, write_template

    path = file or config_path()
    write_template(path, replace=force)
    click.echo(f"written: {path}")


@click.group()
def feedback() -> None:
    """What /good and /bad in the chat have taught the router."""


@feedback.command()
@options.config
def reset(config: Path | None) -> None:
    """Forget what /good and /bad in the chat have taught the router."""
    from edgemoe.config import load_config
    from edgemoe.routing.feedback_state import forget

    path = load_config(config).learned
    there = path.exists()
    forget(path)
    click.echo(f"removed: {path}" if there else f"there was nothing in {path}")


def short(text: str) -> str:
    """One line of a prompt, for a table."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."


def _rows(decision: Decision) -> list[tuple[str, str]]:
    who = f", {decision.target}" if decision.target else ""
    rows = [("route", f"{decision.route}{who}"), ("rule", decision.rule), ("reason", decision.reason)]
    rows.append(("private", "yes: nothing of it may leave this machine" if decision.private else "no"))
    rows.append(("cost", f"{decision.cost:.4f}"))
    if decision.refusal:
        rows.append(("refusal", decision.refusal))
    rows += [(head, _scores(scores)) for head, scores in decision.scores.items()]
    words: dict[tuple[str, str], list[str]] = {}
    for feature in decision.features:
        words.setdefault((feature.head, feature.label), []).append(f"{feature.word} {feature.weight:+.2f}")
    rows += [(f"words for {head} {label}", ", ".join(found)) for (head, label), found in words.items()]
    rows += [(f"worth of {name}", f"{value:.3f}") for name, value in decision.values.items()]
    return rows


def _scores(scores: Any) -> str:
    if "yes" in scores:
        return f"{scores['yes']:.0%}"
    likely = sorted(scores, key=lambda label: -scores[label])[:3]
    return ", ".join(f"{label} {scores[label]:.0%}" for label in likely)
