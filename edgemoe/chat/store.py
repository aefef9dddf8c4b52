"""Conversations as files: what /save writes, and sessions that are kept in the user's state folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from edgemoe.conversation import Message
from edgemoe.errors import EdgeMoEError, ReadError, WriteError
from edgemoe.files import locked, replace_file, state_folder

_FORMAT, _VERSION = "edgemoe conversation", 1
_ROLES = ("system", "user", "assistant")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Saved:
    """A conversation. `private`: nothing of it may leave the machine. `settings` are those of /set."""

    messages: list[Message]
    model: str = ""
    private: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def questions(self) -> list[str]:
        """What the user said."""
        return [str(message["content"]) for message in self.messages if message["role"] == "user"]

    @property
    def size(self) -> str:
        """How much the user said, in words."""
        count = len(self.questions)
        return f"{count} message{'' if count == 1 else 's'} of yours"


def save_conversation(path: Path, saved: Saved) -> None:
    """Replaces `path` as a whole, readable by its owner alone; never a file that is no conversation.

    Raises:
        EdgeMoEError: when it cannot be written, or something else is there.
    """
    if os.path.exists(path):  # which answers for any name, also for one that is too long
        try:
            load_conversation(path)
        except EdgeMoEError as error:
            raise EdgeMoEError(f"{path} stays as it is, choose another name: {error}") from error
    kept = {"format": _FORMAT, "version": _VERSION, "model": saved.model, "private": saved.private}
    kept |= {"settings": dict(saved.settings), "messages": saved.messages}
    replace_file(path, (json.dumps(kept, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "replace"))


def save_under_name(path: Path, saved: Saved, *, overwrite: bool = False) -> None:
    """`save_conversation` to a file that a person names: what is there is lost only if that is asked for.

    Raises:
        EdgeMoEError: as it does; when there is no such folder; when another conversation is there, or more of this one.
    """
    if not os.path.isdir(path.parent):
        raise WriteError(f"there is no folder {path.parent}: make it first, or choose another name")
    if os.path.exists(path) and not overwrite:
        with suppress(ReadError):  # what is no conversation, save_conversation refuses
            there = load_conversation(path)
            if there.messages != saved.messages[: len(there.messages)]:
                raise WriteError(
                    f"{path} has another conversation, with {there.size}: choose another name, or /save --overwrite"
                )
    save_conversation(path, saved)


def load_conversation(path: Path) -> Saved:
    """What `save_conversation` wrote.

    Raises:
        ReadError: when it cannot be read, or is no conversation.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ReadError(f"{path} is no conversation: it has more than {_MOST_BYTES >> 20} MiB")
        kept = json.loads(path.read_bytes())
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ReadError(f"{path} is damaged or no conversation: {error}") from error
    if not isinstance(kept, dict) or kept.get("format") != _FORMAT:
        raise ReadError(f"{path} is no conversation of edgemoe")
    if kept.get("version") != _VERSION:
        raise ReadError(f"{path} has version {kept.get('version')!r}, this edgemoe reads {_VERSION}")
    messages, settings = kept.get("messages"), kept.get("settings", {})
    if not isinstance(messages, list) or not all(map(_is_message, messages)) or not isinstance(settings, dict):
        raise ReadError(f"{path} is damaged: its messages are not what edgemoe writes")
    return Saved(messages, str(kept.get("model", "")), kept.get("private") is not False, settings)


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in _ROLES and isinstance(message.get("content"), str)


# Sessions


def sessions_folder() -> Path:
    """Has a file for each session."""
    return state_folder() / "sessions"


@contextmanager
def open_session(name: str) -> Iterator[Path]:
    """The file of a session, which no other chat can open meanwhile.

    Raises:
        EdgeMoEError: for a name that is none, a session that is open elsewhere, or a folder that cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise EdgeMoEError(f"{name!r} is no name of a session: use letters, digits, dots, dashes and underscores")
    path = sessions_folder() / f"{name}.json"
    try:
        sessions_folder().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sessions_folder().mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        reason = f"{error.strerror}; set XDG_STATE_HOME to a folder that can be written"
        raise WriteError(f"the folder of sessions, {sessions_folder()}, cannot be made: {reason}") from error
    with locked(path, busy=f"the session {name} is open in another chat"):
        yield path


def list_sessions() -> list[dict[str, Any]]:
    """Those that were kept, the newest first: their name, when they were changed, what was said first and how often;
    or what is wrong with them."""
    found = []
    for path in sessions_folder().glob("*.json"):
        row: dict[str, Any] = {"name": path.stem, "changed": _changed(path)}
        try:
            saved = load_conversation(path)
        except EdgeMoEError as error:
            found.append(row | {"problem": str(error)})
            continue
        first = " ".join(saved.questions[0].split()) if saved.questions else ""
        found.append(row | {"model": saved.model, "questions": len(saved.questions), "first": first[:60]})
    return sorted(found, key=lambda row: str(row["changed"]), reverse=True)


def _changed(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime).isoformat(sep=" ", timespec="seconds")
