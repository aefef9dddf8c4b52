"""The texts of a conversation: what its messages say, and all that would be sent with them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgemoe.errors import EdgeMoEError

Message = Mapping[str, Any]

_BASE64 = r"[A-Za-z0-9+/\r\n]*={0,2}\s*"
_DATA_URL = re.compile(rf"data:[\w.+-]+/[\w.+-]+(?:;[\w.+-]+=[\w.+-]+)*;base64,{_BASE64}")
_FILE_DATA = re.compile(_BASE64)
_FILES = {"input_audio": "data", "file": "file_data"}
"""Kinds of parts that hold a file, each in an object of the same name, and the key of its bytes there."""


def messages_of(prompt: str | Sequence[Message]) -> Sequence[Message]:
    """A prompt alone is a conversation of one message.

    Raises:
        EdgeMoEError: for what is no message, and for a content that is neither a text nor a list of parts nor None.
    """
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    messages = list(prompt)
    for message in messages:
        if not isinstance(message, Mapping):
            raise EdgeMoEError(f'a message is an object like {{"role": "user", "content": "..."}}, no {_type(message)}')
        content = message.get("content")
        if content is not None and not isinstance(content, (str, list, tuple)):
            raise EdgeMoEError(f"the content of a message is a text, a list of parts, or None, no {_type(content)}")
    return messages


def last_prompt(messages: Sequence[Message]) -> str:
    """The text that the user wrote last; empty if there is none."""
    said = [message for message in messages if message.get("role") == "user"]
    return text_of(said[-1]) if said else ""


def text_of(message: Message) -> str:
    """Everything in a message that is text: parts of the content, and arguments of tools."""
    content = message.get("content")
    others = {key: value for key, value in message.items() if key not in ("role", "content") and value}
    texts = [content] if isinstance(content, str) else [_part(part) for part in content or ()]
    return "\n".join([*texts, *([json.dumps(others, ensure_ascii=False, default=str)] if others else [])])


def sent_texts(message: Message) -> Iterator[str]:
    """All that is sent of a message: what it says in one piece, and then each text, number and key."""
    yield text_of(message)
    yield from texts_in({key: value for key, value in message.items() if key != "content"})
    content = message.get("content")
    for part in () if isinstance(content, str) else content or ():
        if isinstance(part, Mapping):  # a part that is a text has been in `text_of`, and so has the part's own text
            yield from texts_in({k: v for k, v in part.items() if k != "text" or not isinstance(v, str)})
        elif not isinstance(part, str):
            yield from texts_in(part)


def texts_in(value: Any) -> Iterator[str]:
    """All texts, numbers and keys in a JSON value, but the bytes of files: data URLs, and `data` of audio and files."""
    return _texts_in(value, whole=True)


def _part(part: Any) -> str:
    """Of a content of several parts: all texts in it, also a picture's URL, but nothing in a picture or a file."""
    if isinstance(part, Mapping) and "text" in part:
        others = _texts_in({k: v for k, v in part.items() if k != "text"}, whole=False)
        return "\n".join([str(part["text"]), *others])
    return "\n".join(_texts_in(part, whole=False))


def _texts_in(value: Any, *, whole: bool, bytes_key: str | None = None) -> Iterator[str]:
    """Without numbers, keys and kinds (`type`) unless `whole`; base64 under `bytes_key` is a file's."""
    if isinstance(value, str):
        if not _DATA_URL.fullmatch(value):
            yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if whole:
                yield str(key)
            elif key == "type":
                continue
            if not (key == bytes_key and isinstance(inner, str) and _FILE_DATA.fullmatch(inner)):
                file = key if key in _FILES and value.get("type") == key else None
                yield from _texts_in(inner, whole=whole, bytes_key=_FILES.get(file) if file else None)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts_in(inner, whole=whole)
    elif whole and isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _type(value: object) -> str:
    return type(value).__name__
