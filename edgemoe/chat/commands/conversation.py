"""Commands that concern the conversation and the program."""

from __future__ import annotations

from pathlib import Path

from edgemoe.chat.chat import Chat, Leave, exchange
from edgemoe.chat.commands.registry import COMMANDS, command, find
from edgemoe.chat.settings import random_seed
from edgemoe.chat.store import load_conversation, save_under_name
from edgemoe.errors import EdgeMoEError

_OVERWRITE = "--overwrite"
_KEYS = [
    ('"""', "begins and ends a message of several lines"),
    ("Alt-Enter", "begins another line (so does Esc, then Enter)"),
    ("Tab", "completes commands, their arguments, and names of files"),
    ("Up, Ctrl-R", "what was typed before; searches in it"),
    ("Ctrl-C", "stops the answer; at the prompt clears the line, and twice leaves"),
    ("Ctrl-Z", "goes back to the shell, whose fg returns to the chat"),
    ("Ctrl-D", "leaves, where the line is empty"),
]


@command("/help", "[COMMAND]", words=lambda chat, before: () if before else COMMANDS)
def _help(chat: Chat, name: str) -> None:
    """lists the commands and keys, or explains one command"""
    if name:
        one = find(name if name.startswith("/") else f"/{name}")
        chat.screen.rows([(f"{one.name} {one.usage}".strip(), one.help)])
        return
    found = sorted(COMMANDS.values(), key=lambda command: command.name == "/bye")  # which comes last
    rows = [(f"{command.name} {command.usage}".strip(), command.help) for command in found]
    chat.screen.rows(rows + _KEYS)


@command("/clear")
def _clear(chat: Chat, _: str) -> None:
    """forgets the conversation, keeps the system prompt and the settings"""
    chat.session.clear()
    chat.keep()
    chat.screen.say("The conversation starts anew.")


@command("/retry")
def _retry(chat: Chat, _: str) -> None:
    """answers the last message again, with another seed; the old answer is dropped"""
    before, private = chat.session.transcript, chat.session.private
    taken = chat.session.take_back()
    if chat.settings.get("temperature") == 0:
        chat.screen.say("The temperature is 0, so the answer will be the same: /set temperature 0.7 changes that.")
    try:
        exchange(chat, str(taken[0]["content"]), seed=random_seed())
    finally:
        if len(chat.session.transcript) < len(before) - len(taken) + 2:  # it got no answer
            chat.session.restore(before, private=private)


@command("/undo")
def _undo(chat: Chat, _: str) -> None:
    """drops your last message and its answer"""
    [question, *_answer] = chat.session.take_back()
    chat.keep()
    text = " ".join(str(question["content"]).split())
    chat.screen.say(f"Dropped: {text[:60]}{'...' if len(text) > 60 else ''}")


@command("/system", "[TEXT]", words=lambda chat, before: () if before else ["none"])
def _system(chat: Chat, text: str) -> None:
    """shows the system prompt, or changes it from the next message on ("none" for none)"""
    if text:
        chat.session.set_system(None if text == "none" else text)
        chat.keep()
    chat.screen.say(chat.session.system or "There is no system prompt.")


@command("/save", "[--overwrite] FILE", files=True)
def _save(chat: Chat, argument: str) -> None:
    """writes the conversation to a file; in place of another conversation only with --overwrite"""
    first, _, rest = argument.partition(" ")
    overwrite = first == _OVERWRITE
    path = _path(rest.strip() if overwrite else argument, "/save")
    saved = chat.saved()
    save_under_name(path, saved, overwrite=overwrite)
    chat.screen.say(f"{path} has {saved.size}.")


@command("/load", "FILE", files=True)
def _load(chat: Chat, name: str) -> None:
    """goes on with a conversation from a file, in place of this one"""
    path = _path(name, "/load")
    chat.restore(load_conversation(path))
    chat.keep()
    chat.screen.say(f"{path}: {chat.saved().size}.")


@command("/bye")
def _bye(_: Chat, __: str) -> None:
    """leaves"""
    raise Leave


def _path(name: str, asked: str) -> Path:
    if not name:
        raise EdgeMoEError(f"which file? for example {asked} story.json")
    try:
        return Path(name).expanduser().absolute()
    except RuntimeError as error:  # ~name, and there is no such user
        raise EdgeMoEError(f"{name} is no file's name: {error}") from error
