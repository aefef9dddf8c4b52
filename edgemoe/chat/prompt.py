"""The line where the user types: several lines, history, completion, and the status below."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Always, has_focus
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style

from edgemoe.chat.chat import Chat
from edgemoe.chat.commands import COMMANDS
from edgemoe.chat.view import fitting
from edgemoe.files import state_folder

QUOTES = '"""'
_PLAIN = {"bottom-toolbar": "noreverse", "completion-menu": "noreverse", "prompt": ""}
_COLOURED = {"bottom-toolbar": "noreverse ansibrightblack", "prompt": "ansicyan bold"}


class Typed(NamedTuple):
    """What was typed. `quoted`: between three quotes, and so a message."""

    text: str
    quoted: bool


class Interrupted(Exception):
    """Ctrl-C at the prompt. `empty`: nothing was typed."""

    def __init__(self, *, empty: bool) -> None:
        super().__init__()
        self.empty = empty


class Prompt:
    """Reads messages and commands. A message may have several lines."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        colourless = bool(os.environ.get("NO_COLOR"))
        self._session: PromptSession[str] = PromptSession(
            history=_history(),
            completer=CommandCompleter(chat),
            complete_while_typing=False,
            enable_history_search=True,
            enable_suspend=True,
            multiline=True,
            key_bindings=_keys(),
            prompt_continuation="... ",
            bottom_toolbar=self._status,
            style=Style.from_dict(_PLAIN if colourless else _COLOURED),
            include_default_pygments_style=False,
            color_depth=ColorDepth.DEPTH_1_BIT if colourless else None,
            refresh_interval=1.0,
        )
        for window in self._session.layout.find_all_windows():
            window.dont_extend_height = Always()  # the status stands below the text, not below the screen

    def read(self) -> Typed:
        """The next message or command.

        Raises:
            Interrupted: for Ctrl-C.
            EOFError: for Ctrl-D.
        """
        return _unquoted(self._session.prompt([("class:prompt", ">>> ")]))

    def _status(self) -> str:
        chat = self._chat
        parts = [*chat.session.status(), chat.model]
        if chat.name:
            parts.insert(2, f"session {chat.name}")
        return fitting(parts, get_app().output.get_size().columns - 1)


class PlainPrompt:
    """For terminals that cannot move the cursor: lines as the terminal edits them."""

    def __init__(self) -> None:
        self._history = _history()

    def read(self) -> Typed:
        """As `Prompt.read`."""
        try:
            text = input(">>> ")
            while text.lstrip().startswith(QUOTES) and not _is_quoted(text):
                text += "\n" + input("... ")
        except KeyboardInterrupt:
            raise Interrupted(empty=True) from None
        self._history.append_string(text)
        return _unquoted(text)


class CommandCompleter(Completer):
    """Commands, their arguments, and names of files."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What can stand in the place of the word before the cursor."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        *before, word = text.split(" ")
        if not before:
            yield from (
                Completion(name, -len(word), display_meta=found.help)
                for name, found in COMMANDS.items()
                if name.startswith(word)
            )
        elif (found := COMMANDS.get(before[0])) is None:
            return
        elif found.files:
            path = text[len(before[0]) :].lstrip()
            yield from self._paths.get_completions(Document(path, len(path)), complete_event)
        else:
            fits = (name for name in found.words(self._chat, before[1:]) if name.startswith(word))
            yield from (Completion(name, -len(word)) for name in fits)


def _keys() -> KeyBindings:
    keys = KeyBindings()
    typing = has_focus(DEFAULT_BUFFER)  # and not searching

    @keys.add("enter", filter=typing)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state and buffer.complete_state.current_completion:
            buffer.complete_state = None
        elif buffer.text.lstrip().startswith(QUOTES) and not _is_quoted(buffer.text):
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter", filter=typing)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    @keys.add("c-c", filter=typing)
    def _(event: KeyPressEvent) -> None:
        event.app.exit(exception=Interrupted(empty=not event.current_buffer.text), style="class:aborting")

    return keys


def _is_quoted(text: str) -> bool:
    text = text.strip()
    return len(text) >= 2 * len(QUOTES) and text.startswith(QUOTES) and text.endswith(QUOTES)


def _unquoted(text: str) -> Typed:
    if _is_quoted(text):
        return Typed(text.strip().removeprefix(QUOTES).removesuffix(QUOTES).strip(), True)
    return Typed(text.strip(), False)


def _history() -> History:
    """What was typed before, kept in the user's state folder; only in memory where that cannot be written."""
    path: Path = state_folder() / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.open("a").close()
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
