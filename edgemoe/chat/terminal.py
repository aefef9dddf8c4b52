"""The interactive chat: reads lines, streams answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from edgemoe.chat.commands import COMMANDS, Chat, Leave, run_command
from edgemoe.errors import Cancelled, EdgeMoEError

if TYPE_CHECKING:
    from prompt_toolkit.history import History

_QUOTES = '"""'
_CONTROL = {code: None for code in (*range(32), 127, *range(128, 160)) if chr(code) not in "\n\t"}


def chat_loop(chat: Chat) -> None:
    """Answer what the user types until they leave."""
    read = _line_reader()
    while True:
        try:
            text = _read_message(read).strip()
            if text.startswith("/"):
                run_command(chat, text)
            elif text:
                _answer(chat, text)
        except (Leave, EOFError):
            return
        except KeyboardInterrupt:
            chat.console.print("Ctrl-D or /bye leaves.", style="dim")
        except EdgeMoEError as error:
            chat.console.print(str(error), style="red", markup=False, highlight=False)


def printable(text: str) -> str:
    """`text` without the control characters with which a model's output could drive a terminal."""
    return text.translate(_CONTROL)


def _answer(chat: Chat, text: str) -> None:
    with closing(chat.session.reply(text, **chat.sampling)) as pieces:
        try:
            for piece in pieces:
                sys.stdout.write(printable(piece))
                sys.stdout.flush()
        except (KeyboardInterrupt, Cancelled):
            sys.stdout.write(" (stopped)")
    sys.stdout.write("\n")
    sys.stdout.flush()
    note = " · cut by the token limit" if chat.session.finish_reason == "length" else ""
    chat.console.print(chat.session.footer() + note, style="dim", markup=False, highlight=False)


def _read_message(read: Callable[[str], str]) -> str:
    """One line, or the lines between two `\"\"\"`."""
    line = read(">>> ")
    if not line.lstrip().startswith(_QUOTES):
        return line
    lines = [line.lstrip()[len(_QUOTES) :]]
    while not lines[-1].rstrip().endswith(_QUOTES):
        lines.append(read("... "))
    lines[-1] = lines[-1].rstrip()[: -len(_QUOTES)]
    return "\n".join(lines)


def _line_reader() -> Callable[[str], str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter

    commands = WordCompleter(sorted(COMMANDS), sentence=True)
    session: PromptSession[str] = PromptSession(history=_history(), completer=commands, complete_while_typing=False)
    return session.prompt


def _history() -> History:
    """What was typed before, kept in the user's state folder; only in memory where that cannot be written."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    path = Path(home) / "edgemoe" / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.open("a").close()
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
