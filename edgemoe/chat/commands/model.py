"""Commands that concern who answers, how, and with what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgemoe.chat.chat import Chat
from edgemoe.chat.commands.registry import command
from edgemoe.errors import EdgeMoEError
from edgemoe.experts.quality import EXACT, LEVELS, TARGETS

_SHOWN = ("thinking", "messages")
_QUALITIES = (EXACT, *TARGETS, *(f"fixed:{level}" for level in LEVELS), "bits:3")
_SIZES = ("auto", "none", "50%", "1GiB", "2GiB", "4GiB", "8GiB")


def _set_words(chat: Chat, before: Sequence[str]) -> Iterable[str]:
    if not before:
        return chat.settings.names
    if len(before) > 1:
        return ()
    return ("shown", "folded") if before[0] == "thinking" else ("default",)


@command("/set", "[NAME VALUE]", words=_set_words)
def _set(chat: Chat, argument: str) -> None:
    """shows the settings, or changes one: /set temperature 0.2, /set seed default, /set thinking shown"""
    name, _, value = argument.partition(" ")
    if value:
        chat.settings.set(name, value.strip())
        chat.keep()
    rows = chat.settings.rows()
    if name and name not in chat.settings.names:
        chat.settings.set(name, "default")  # raises, with a name that is near
    chat.screen.rows([row for row in rows if name in ("", row[0])])


@command("/show", "[thinking|messages]", words=lambda chat, before: () if before else _SHOWN)
def _show(chat: Chat, what: str) -> None:
    """shows who answers and how; what was thought before the last answer; or the whole conversation"""
    if what == "thinking":
        last = chat.last_answer()
        if not last or not last[0]:
            raise EdgeMoEError("there was no thinking before the last answer")
        chat.screen.say(last[0], style="dim italic")
    elif what == "messages":
        for message in chat.session.transcript:
            chat.screen.say(f"{message['role']}:")
            chat.screen.markdown(str(message["content"]))
    elif what:
        raise EdgeMoEError(f"{what!r} cannot be shown: /show alone, or with {' or '.join(_SHOWN)}")
    else:
        rows = [("model", chat.model), *chat.session.describe(), ("system prompt", chat.session.system or "none")]
        session = chat.name or "not kept: edgemoe chat --session NAME keeps it"
        chat.screen.rows([*rows, ("session", session), *chat.settings.rows()])


@command("/stats")
def _stats(chat: Chat, _: str) -> None:
    """speed, bits, cache and memory since the model was loaded"""
    chat.screen.rows(chat.session.report())


@command("/memory", "[SIZE]", words=lambda chat, before: () if before else _SIZES)
def _memory(chat: Chat, size: str) -> None:
    """shows the memory budget, or changes it: /memory 1GiB, /memory 50%, /memory auto, /memory none"""
    if size:
        chat.session.set_memory(size)
    rows = chat.session.report()
    chat.screen.rows([row for row in rows if row[0].split()[-1] in ("cache", "memory")])


@command("/quality", "[QUALITY]", words=lambda chat, before: () if before else _QUALITIES)
def _quality(chat: Chat, quality: str) -> None:
    """shows the quality, or changes it: exact, high, balanced, fast, fixed:3, bits:3.2, or a number"""
    if quality:
        chat.session.set_quality(quality)
    chat.screen.rows([row for row in chat.session.describe() if row[0] == "quality"])
