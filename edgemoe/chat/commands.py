"""The slash commands of the interactive chat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgemoe.chat.routed import RoutedSession
from edgemoe.errors import EdgeMoEError

if TYPE_CHECKING:
    from rich.console import Console

    from edgemoe.chat.session import Session


class Leave(Exception):
    """Ends the chat."""


@dataclass
class Chat:
    """What a command can look at and change."""

    session: Session
    console: Console
    sampling: dict[str, Any] = field(default_factory=dict)


Command = Callable[[Chat, str], None]
COMMANDS: dict[str, Command] = {}


def run_command(chat: Chat, line: str) -> None:
    """Carry out `line`, which starts with a slash.

    Raises:
        EdgeMoEError: when there is no such command.
        Leave: when it ends the chat.
    """
    name, _, argument = line.partition(" ")
    if name not in COMMANDS:
        raise EdgeMoEError(f"there is no command {name}: /help lists them")
    COMMANDS[name](chat, argument.strip())


def _command(name: str) -> Callable[[Command], Command]:
    def register(function: Command) -> Command:
        COMMANDS[name] = function
        return function

    return register


@_command("/help")
def _help(chat: Chat, _: str) -> None:
    """list the commands"""
    rows = [(name, function.__doc__ or "") for name, function in COMMANDS.items()]
    rows += [('"""', "begins and ends a message of several lines")]
    rows += [("Ctrl-C", "stops the answer"), ("Ctrl-D", "leaves")]
    _print_rows(chat.console, rows)


@_command("/clear")
def _clear(chat: Chat, _: str) -> None:
    """forget the conversation, keep the system prompt"""
    chat.session.clear()
    chat.console.print("The conversation starts anew.", style="dim")


@_command("/stats")
def _stats(chat: Chat, _: str) -> None:
    """speed, cache and memory since the model was loaded"""
    _print_rows(chat.console, chat.session.report())


@_command("/memory")
def _memory(chat: Chat, size: str) -> None:
    """show the memory budget, or change it: /memory 1GiB, /memory auto, /memory none"""
    if size:
        chat.session.set_memory(size)
    rows = chat.session.report()
    _print_rows(chat.console, [row for row in rows if row[0].split()[-1] in ("cache", "memory")])


@_command("/route")
def _route(chat: Chat, _: str) -> None:
    """with --route: who answered last, and why"""
    _print_rows(chat.console, _routed(chat).explanation())


@_command("/good")
def _good(chat: Chat, _: str) -> None:
    """with --route: the last answer was good; the router learns from it"""
    chat.console.print(_routed(chat).feedback(good=True), style="dim", markup=False)


@_command("/bad")
def _bad(chat: Chat, _: str) -> None:
    """with --route: the last answer was bad"""
    chat.console.print(_routed(chat).feedback(good=False), style="dim", markup=False)


def _routed(chat: Chat) -> RoutedSession:
    if not isinstance(chat.session, RoutedSession):
        raise EdgeMoEError("this chat has one model and no router: edgemoe chat --route has")
    return chat.session


@_command("/bye")
def _bye(_: Chat, __: str) -> None:
    """leave"""
    raise Leave


def _print_rows(console: Console, rows: list[tuple[str, str]]) -> None:
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        console.print(f"  {name:<{width}}  {value}", markup=False, highlight=False)
