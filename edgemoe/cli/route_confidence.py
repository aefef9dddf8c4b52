"""`edgemoe route confidence`: how what a model's tokens say becomes the probability that its answer is good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgemoe.cli import options
from edgemoe.errors import EdgeMoEError

if TYPE_CHECKING:
    from edgemoe.assistant.confidence import Coefficients, Probed

_TOKENS = click.option("--max-tokens", type=click.IntRange(min=1), default=64, show_default=True, help="Per answer.")


@click.command(short_help="Calibrate when a local model looks unsure.")
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "name", metavar="NAME", help="One of the configuration's.  [default: the first]")
@_TOKENS
@options.config
@options.as_json
def confidence(data: Path, name: str | None, max_tokens: int, config: Path | None, as_json: bool) -> None:
    """Calibrate when a local model's answers look unsure, on prompts whose answers are known.

    DATA has lines of JSON with "text" and "answer". The model answers each; an answer is good where it holds the known
    one. What is printed belongs into the configuration, under [local.NAME].

    Example: edgemoe route confidence answers.jsonl
    """
    from edgemoe.assistant.confidence import USUAL, fit_confidence, probe_answers
    from edgemoe.assistant.models import Models
    from edgemoe.cli.console import print_json, quiet_library, working
    from edgemoe.config import load_config
    from edgemoe.config.tables import nearest

    settings = load_config(config)
    chosen = name or next(iter(settings.local))
    if chosen not in settings.local:
        near = nearest(chosen, settings.local) or f"it has {', '.join(settings.local)}"
        raise EdgeMoEError(f"the configuration has no local model {chosen!r}: {near}")
    rows = _read(data)
    quiet_library()
    models = Models(settings.local, settings.memory)
    try:
        with working("answering"), models.use(chosen) as llm:
            found = probe_answers(llm, rows, max_tokens)
    finally:
        models.close()
    try:
        fitted = fit_confidence(found)
    except ValueError as error:
        raise EdgeMoEError(f"{data}: {error}") from error
    measured = {
        "before": _measures(found, settings.local[chosen].confidence or USUAL),
        "after": _measures(found, fitted),
    }
    if as_json:
        print_json({"model": chosen, "rows": len(found), "confidence": fitted} | measured)
        return
    click.echo(f"[local.{chosen}]\nconfidence = [{', '.join(f'{c:.4f}' for c in fitted)}]")
    good = sum(row.good for row in found)
    click.echo(f"edgemoe: {good} of {len(found)} answers are good", err=True)
    for when, values in measured.items():
        shown = ", ".join(f"{key} {value:.3f}" for key, value in values.items())
        click.echo(f"edgemoe: {when}: {shown}", err=True)


def _read(path: Path) -> list[tuple[str, str]]:
    from edgemoe.cli.console import read_text

    rows: list[tuple[str, str]] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            value = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise EdgeMoEError(f"{path}, line {number} is no JSON: {error}") from error
        if value is None:
            continue
        text, answer = (value.get("text"), value.get("answer")) if isinstance(value, dict) else (None, None)
        if not isinstance(text, str) or not isinstance(answer, str) or not text.strip() or not answer.strip():
            raise EdgeMoEError(f'{path}, line {number} needs {{"text": ..., "answer": ...}}')
        rows.append((text, answer))
    if not rows:
        raise EdgeMoEError(f"{path} has no line")
    return rows


def _measures(rows: list[Probed], coefficients: Coefficients) -> dict[str, Any]:
    import numpy as np

    from edgemoe.assistant.confidence import confidence_of
    from edgemoe.routing.calibration import calibration_error
    from edgemoe.routing.local_or_cloud import auc

    scores = np.asarray([confidence_of(row.mean_logprob, row.mean_entropy, coefficients) for row in rows])
    good = np.asarray([row.good for row in rows])
    return {"calibration error": calibration_error(scores, good), "AUC": auc(scores, good)}
