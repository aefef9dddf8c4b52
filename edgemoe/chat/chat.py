"""What an interactive chat consists of, and one question with its answer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edgemoe.chat.keyboard import Interrupts, one_interrupt
from edgemoe.chat.screen import Screen
from edgemoe.chat.session import Session
from edgemoe.chat.settings import Settings
from edgemoe.chat.store import Saved, save_conversation
from edgemoe.errors import Cancelled
from edgemoe.thinking import ThinkingFilter, split_thoughts


class Leave(Exception):
    """Ends the chat."""


@dataclass
class Chat:
    """What a command can look at and change. `file` is the session's, which is written after each change."""

    session: Session
    screen: Screen
    settings: Settings
    model: str
    file: Path | None = None

    @property
    def name(self) -> str | None:
        """The session's."""
        return self.file.stem if self.file else None

    def saved(self) -> Saved:
        """The conversation as it is kept."""
        return Saved(self.session.transcript, self.model, self.session.private, self.settings.given)

    def restore(self, saved: Saved) -> None:
        """Goes on with a conversation that was kept."""
        self.settings.take(saved.settings)
        self.session.restore(saved.messages, private=saved.private)

    def keep(self) -> None:
        """Writes the session's file, if this is one. Raises EdgeMoEError when it cannot be written."""
        if self.file is not None:
            save_conversation(self.file, self.saved())

    def last_answer(self) -> tuple[str, str] | None:
        """The thoughts and the text of the last answer."""
        text = next((m["content"] for m in reversed(self.session.transcript) if m["role"] == "assistant"), None)
        return None if text is None else split_thoughts(str(text), self.session.thinking_tag())


def exchange(chat: Chat, question: str, *, seed: int | None = None) -> None:
    """Shows the answer to `question` as it comes, and what it cost. Ctrl-C stops it.

    Raises:
        EdgeMoEError: what the session raises.
    """
    sampling = chat.settings.sampling() | ({} if seed is None else {"seed": seed})
    before = len(chat.session.transcript)
    with one_interrupt() as interrupts, closing(chat.session.reply(question, **sampling)) as pieces:
        stopped = _stream(chat, pieces, interrupts)
        begun = inspect.getgeneratorstate(pieces) != inspect.GEN_CREATED
    if begun:
        cut = " · cut by the token limit" if chat.session.finish_reason == "length" else ""
        chat.screen.say(chat.session.footer() + ("" if stopped else cut))
    if stopped and len(chat.session.transcript) == before:
        chat.screen.say("That message has no answer, and is not kept.")
    chat.keep()


def _stream(chat: Chat, pieces: Iterator[str], interrupts: Interrupts) -> bool:
    """Shows the pieces; whether they were stopped."""
    screen, stopped = chat.screen, False
    with screen.answering(chat.session.status, thinking_shown=chat.settings.thinking_shown):
        try:
            with interrupts.expected():
                thinking: ThinkingFilter | None = None
                for piece in pieces:
                    thinking = thinking or ThinkingFilter(chat.session.thinking_tag())
                    _show(screen, thinking, piece)
                if thinking is not None and (rest := thinking.end()):
                    screen.view.answer(rest)
        except (KeyboardInterrupt, Cancelled):
            stopped = True
        finally:
            screen.view.end("(stopped)" if stopped else "")
    return stopped


def _show(screen: Screen, thinking: ThinkingFilter, piece: str) -> None:
    thought = not thinking.answering
    answer = thinking.feed(piece)
    if thought and thinking.thoughts.strip():
        screen.view.think(thinking.thoughts)
    if answer:
        screen.view.answer(answer)
