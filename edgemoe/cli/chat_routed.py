"""`edgemoe chat --route`: each message is answered by whom the configuration says."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgemoe.assistant import Answer
    from edgemoe.chat.routed import RoutedSession
    from edgemoe.routing.policy import Decision

_OF_ONE_MODEL = ("model", "cache", "quality", "ctx", "threads", "trace")
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "seed", "max_tokens")


def chat_routed(context: click.Context, text: str | None, config: Path | None, *, as_json: bool) -> None:
    """The chat, or one answer to `text`. Only sampling options that were given override the models' own."""
    from edgemoe.assistant import Assistant
    from edgemoe.chat.routed import RoutedSession
    from edgemoe.cli.console import quiet_library
    from edgemoe.config import load_config

    given = {name: context.params[name] for name in context.params if _was_given(context, name)}
    if wrong := [name for name in _OF_ONE_MODEL if name in given]:
        what = "MODEL" if wrong[0] == "model" else f"--{wrong[0]}"
        raise click.UsageError(f"{what} is of one model: with --route the configuration names the models")
    settings = load_config(config)
    if "memory" in given:
        settings = dataclasses.replace(settings, memory=given["memory"])
    if not given.get("verbose"):
        quiet_library()
    talks = text is None
    assistant = Assistant(settings, ask=_ask if talks else None, on_note=_note, on_load=_tell_load)
    with closing(assistant):
        session = RoutedSession(assistant, given.get("system"), local_only=bool(given.get("local_only")))
        sampling = {name: given[name] for name in _SAMPLING if name in given}
        if text is None:
            _talk(session, sampling)
        else:
            _answer(session, text, sampling, as_json)


def _was_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _talk(session: RoutedSession, sampling: dict[str, Any]) -> None:
    from edgemoe.chat.commands import Chat
    from edgemoe.chat.terminal import chat_loop
    from edgemoe.cli.console import console

    config = session.assistant.config
    names = ", ".join([*config.local, *config.cloud])
    screen = console()
    screen.print(f"Who answers: {names}. /help lists the commands.", style="dim", markup=False)
    chat_loop(Chat(session, screen, sampling))


def _answer(session: RoutedSession, text: str, sampling: dict[str, Any], as_json: bool) -> None:
    from edgemoe.chat.terminal import printable
    from edgemoe.cli.console import console, print_json

    show: Callable[[str], str] = printable if sys.stdout.isatty() else str
    with closing(session.reply(text, **sampling)) as pieces:
        for piece in pieces:
            if not as_json:
                click.echo(show(piece), nl=False)
    assert session.last is not None
    if as_json:
        print_json(_result(session.last))
        return
    click.echo()
    console(stderr=True).print(session.footer(), style="dim", markup=False, soft_wrap=True)


def _result(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "answered_by": answer.answered_by,
        "decision": decision_values(answer.decision),
        "confidence": answer.confidence,
        "notes": answer.notes,
        "usage": dataclasses.asdict(answer.usage) if answer.usage else None,
        "cost": answer.cost,
    }


def decision_values(decision: Decision) -> dict[str, Any]:
    """A decision as JSON has it."""
    return dataclasses.asdict(decision)


def _note(message: str) -> None:
    click.echo(f"\n({message})", err=True)


def _tell_load(name: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"(loading {name})", err=True)


def _ask(decision: Decision, confidence: float) -> bool:
    cost = f", about {decision.cost:.4f}" if decision.cost else ""
    try:
        said = input(f"The local model is unsure ({confidence:.0%}). Ask {decision.target}{cost}? [y/N] ")
    except EOFError:
        return False
    return said.strip().lower() in ("y", "yes")
