"""Which commands there are, and how a line becomes a call of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edgemoe.chat.chat import Chat
from edgemoe.errors import EdgeMoEError

Words = Callable[[Chat, Sequence[str]], Iterable[str]]
"""What can follow the words that a command was given so far."""


@dataclass(frozen=True)
class Command:
    """`usage` are its arguments for people; `files` says that the argument is a file's name."""

    name: str
    usage: str
    run: Callable[[Chat, str], None]
    words: Words
    files: bool = False

    @property
    def help(self) -> str:
        """One sentence."""
        return " ".join((self.run.__doc__ or "").split())


COMMANDS: dict[str, Command] = {}


def command(
    name: str, usage: str = "", *, words: Words = lambda chat, before: (), files: bool = False
) -> Callable[[Callable[[Chat, str], None]], Callable[[Chat, str], None]]:
    """Makes a function a command; its docstring is its help. It is given what stands behind the name."""

    def register(function: Callable[[Chat, str], None]) -> Callable[[Chat, str], None]:
        COMMANDS[name] = Command(name, usage, function, words, files)
        return function

    return register


def is_command(text: str) -> bool:
    """Whether it is to be carried out: a path such as /usr/bin/env at the start of a message is no command."""
    return text.startswith("/") and "\n" not in text and "/" not in text.split(maxsplit=1)[0][1:]


def run_command(chat: Chat, line: str) -> None:
    """Carry out `line`, which starts with a slash.

    Raises:
        EdgeMoEError: when there is no such command, it does not apply, or its argument is wrong.
        Leave: when it ends the chat.
    """
    name, *rest = line.split(maxsplit=1)
    find(name).run(chat, rest[0].strip() if rest else "")


def find(name: str) -> Command:
    """The command of this name. Raises EdgeMoEError with a name that is near."""
    from edgemoe.config.tables import nearest

    if name not in COMMANDS:
        near = nearest(name, COMMANDS)
        raise EdgeMoEError(f"there is no command {name}: " + (f"did you mean {near}?" if near else "/help lists them"))
    return COMMANDS[name]
