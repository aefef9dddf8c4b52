"""Conversations that `edgemoe chat --session` keeps, and the interactive chat that goes on with one."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgemoe.chat.store import Saved, list_sessions, load_conversation, open_session, save_conversation

if TYPE_CHECKING:
    from edgemoe.chat.screen import Screen
    from edgemoe.chat.session import Session
    from edgemoe.chat.settings import Settings


@dataclass(frozen=True)
class Kept:
    """A session's file, None where nothing is kept, and what it had."""

    path: Path | None = None
    saved: Saved | None = None

    def resume(self, session: Session, settings: Settings, system: str | None) -> None:
        """Goes on with it. What the command line says of settings and system prompt holds."""
        if self.saved is None:
            return
        settings.take(self.saved.settings)
        session.restore(self.saved.messages, private=self.saved.private)
        if system is not None:
            session.set_system(system)

    def keep(self, session: Session, settings: Settings, model: str) -> None:
        """Writes it. Raises EdgeMoEError when it cannot be written."""
        if self.path is not None:
            save_conversation(self.path, Saved(session.transcript, model, session.private, settings.given))


@contextmanager
def open_kept(name: str | None) -> Iterator[Kept]:
    """The session of this name, which no other chat can open meanwhile; without a name nothing is kept.

    Raises:
        EdgeMoEError: for a name that is none, a session that is open elsewhere, and a damaged file, which stays.
    """
    if name is None:
        yield Kept()
        return
    with open_session(name) as path:
        yield Kept(path, load_conversation(path) if path.exists() else None)


def talk(
    session: Session,
    screen: Screen,
    settings: Settings,
    model: str,
    kept: Kept,
    system: str | None,
    greeting: str,
    again: Sequence[str] = (),
) -> None:
    """The interactive chat; `again` are the arguments with which a session goes on with the same models."""
    from edgemoe.chat.chat import Chat
    from edgemoe.chat.terminal import chat_loop, show_end_of

    kept.resume(session, settings, system)
    chat = Chat(session, screen, settings, model, kept.path)
    screen.say(greeting)
    if kept.saved is not None:
        if kept.saved.model not in ("", model):
            screen.note(f"this conversation was with {kept.saved.model}")
        show_end_of(chat)
    chat_loop(chat)
    if chat.name:
        screen.say(f"Kept: {shlex.join(['edgemoe', 'chat', *again, '--session', chat.name])} goes on.")


def print_sessions(*, as_json: bool) -> None:
    """Lists the sessions that there are."""
    from edgemoe.chat.printable import printable
    from edgemoe.cli.console import console, print_json, print_rows

    found = list_sessions()
    if as_json:
        print_json(found)
    elif not found:
        console().print("There are no sessions: edgemoe chat --session NAME keeps one.")
    else:
        print_rows([(row["name"], printable(_description(row))) for row in found])


def _description(row: dict[str, str]) -> str:
    if "problem" in row:
        return f"{row['changed']}  {row['problem']}"
    count = f"{row['questions']} message{'' if row['questions'] == 1 else 's'}"
    return f"{row['changed']}  {count}, {row['model']}: {row['first']}"
