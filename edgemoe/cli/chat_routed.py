"""`edgemoe chat --route`: each message is answered by whom the configuration says."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgemoe.chat.routed import RoutedSession
from edgemoe.cli import options

if TYPE_CHECKING:
    from edgemoe.assistant import Answer, Assistant
    from edgemoe.chat.settings import Settings
    from edgemoe.cli.chat_sessions import Kept
    from edgemoe.routing.policy import Decision

_OF_ONE_MODEL = ("model", "cache", "quality", "ctx", "threads", "trace")


def chat_routed(context: click.Context, text: str | None, config: Path | None, kept: Kept, *, as_json: bool) -> None:
    """The chat, or one answer to `text`. Only sampling options that were given override the models' own."""
    from edgemoe.chat.settings import SAMPLING, Settings

    given = {name: context.params[name] for name in context.params if options.was_given(context, name)}
    settings = Settings({s.name: given[s.name] for s in SAMPLING if s.name in given}, own_defaults=False)
    arguments = {"local_only": bool(given.get("local_only"))}
    if text is None:
        _talk(given, config, settings, kept, arguments)
        return
    with _assistant(given, config, on_note=_note, on_load=_tell_load) as assistant:
        session = RoutedSession(assistant, given.get("system"), **arguments)
        kept.resume(session, settings, given.get("system"))
        _answer(session, text, settings.sampling(), as_json)
        kept.keep(session, settings, "route")


@contextmanager
def _assistant(given: Mapping[str, Any], config: Path | None, **callbacks: Any) -> Iterator[Assistant]:
    from edgemoe.assistant import Assistant
    from edgemoe.cli.console import quiet_library
    from edgemoe.config import load_config

    if wrong := [name for name in _OF_ONE_MODEL if name in given]:
        what = "MODEL" if wrong[0] == "model" else f"--{wrong[0]}"
        raise click.UsageError(f"{what} is of one model: with --route the configuration names the models")
    settings = load_config(config)
    if "memory" in given:
        settings = dataclasses.replace(settings, memory=given["memory"])
    if not given.get("verbose"):
        quiet_library()
    with closing(Assistant(settings, **callbacks)) as assistant:
        yield assistant


def _talk(
    given: Mapping[str, Any], config: Path | None, settings: Settings, kept: Kept, arguments: Mapping[str, bool]
) -> None:
    from edgemoe.chat.screen import Screen
    from edgemoe.cli.chat_sessions import talk
    from edgemoe.cli.console import console

    screen = Screen(console())

    def ask(decision: Decision, confidence: float) -> bool:
        cost = f", about {decision.cost:.4f}" if decision.cost else ""
        return screen.ask(f"The local model is unsure ({confidence:.0%}). Ask {decision.target}{cost}? [y/N] ")

    def on_load(name: str) -> None:
        screen.waiting(f"loading {name}")

    with _assistant(given, config, ask=ask, on_note=screen.note, on_load=on_load) as assistant:
        session = RoutedSession(assistant, given.get("system"), **arguments)
        names = ", ".join([*assistant.config.local, *assistant.config.cloud])
        greeting = f"Who answers: {names}. /help lists the commands."
        again = ["--route", *(["--config", str(config)] if config else [])]
        talk(session, screen, settings, "route", kept, given.get("system"), greeting, again)


def _answer(session: RoutedSession, text: str, sampling: dict[str, Any], as_json: bool) -> None:
    from edgemoe.chat.printable import printable
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
    console(stderr=True).print(session.footer(), style="dim", markup=False, soft_wrap=not sys.stderr.isatty())


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
