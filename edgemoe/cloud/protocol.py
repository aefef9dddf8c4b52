"""OpenAI's chat completions, streamed: what is sent, and what the events that come back mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgemoe.errors import CloudError

Message = Mapping[str, Any]

_OURS = ("model", "messages", "stream", "stream_options", "n")
_THOUGHTS = ("reasoning_content", "reasoning")
"""Of which a server may send either, or both with the same text."""
BYTES_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4


@dataclass(frozen=True)
class Usage:
    """Tokens that are paid for; `estimated` from the text's length where the server did not say."""

    prompt_tokens: int
    completion_tokens: int
    estimated: bool = False


@dataclass(frozen=True)
class Piece:
    """Text as it comes, or a `thought`, which is paid for and not shown. The last piece of an answer, and no other, has
    the reason it ended and the tokens it used."""

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    thought: str = ""


def estimated_usage(messages: Sequence[Message], text: str) -> Usage:
    """A guess for an answer that was cut off, or whose server does not count: a token for each 4 bytes of UTF-8."""
    contents = [m["content"] if isinstance(m.get("content"), str) else json.dumps(m.get("content")) for m in messages]
    return Usage(sum(map(_tokens, contents)) + _TOKENS_PER_MESSAGE * len(messages), _tokens(text), estimated=True)


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def request_body(model: str, messages: Sequence[Message], sampling: Mapping[str, Any]) -> bytes:
    """The JSON that is sent; `sampling` may have any field of the protocol, such as temperature or max_tokens.

    Raises:
        CloudError: for messages that are none, for a field of ours in `sampling`, for what JSON cannot say.
    """
    if not messages or not all(isinstance(m, Mapping) and isinstance(m.get("role"), str) for m in messages):
        raise CloudError('messages must be a list of objects like {"role": "user", "content": "..."}')
    if taken := sorted(set(sampling) & set(_OURS)):
        raise CloudError(f"{', '.join(taken)} cannot be chosen for an endpoint's answer")
    options = {name: value for name, value in sampling.items() if value is not None}
    fixed = {"model": model, "messages": [dict(m) for m in messages], "stream": True}
    try:
        body = fixed | {"stream_options": {"include_usage": True}} | options
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise CloudError(f"the request cannot be written as JSON: {error}") from None


class Answer:
    """What has come of an answer. `characters` counts everything that was generated, also what is not shown.

    `hide` takes a key out of what is quoted in errors.
    """

    def __init__(self, messages: Sequence[Message], hide: Callable[[str], str] = str) -> None:
        self._messages = messages
        self._hide = hide
        self._generated: list[str] = []
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self.characters = 0
        self.thought = ""
        """What the last event had of reasoning."""
        self.ended = False
        """The server has said that nothing follows."""

    @property
    def finished(self) -> bool:
        """Nothing of the text is missing; its usage may still come. Servers that end an answer early, as llama.cpp's
        does for the next request, say that nothing follows, but no reason."""
        return self._finish_reason is not None

    def add(self, event: str) -> str:
        """The text of an event.

        Raises:
            CloudError: for one that the protocol does not know, or that reports an error.
        """
        self.thought = ""
        if event == "[DONE]":
            self.ended = True
            return ""
        try:
            chunk = json.loads(event)
        except (ValueError, RecursionError):
            raise CloudError(f"sent an event that is no JSON: {quoted(self._hide(event))}") from None
        if not isinstance(chunk, dict):
            raise CloudError(f"sent an event that is no object: {quoted(self._hide(event))}")
        if chunk.get("error"):
            text = error_text(self._hide(event))
            raise CloudError(f"reported an error: {text}", temporary=_is_temporary(chunk["error"]))
        try:
            return self._add_chunk(chunk)
        except (TypeError, ValueError, KeyError, AttributeError):
            raise CloudError(f"sent an event of another protocol: {quoted(self._hide(event))}") from None

    def last_piece(self) -> Piece:
        """Ends the answer."""
        usage = self._usage or estimated_usage(self._messages, "".join(self._generated))
        return Piece("", self._finish_reason, usage)

    def _add_chunk(self, chunk: dict[str, Any]) -> str:
        usage = chunk.get("usage")
        self._usage = _usage(usage) or self._usage
        text = ""
        choices = chunk.get("choices", [] if usage else None)
        if not isinstance(choices, list):
            raise TypeError
        for choice in choices:
            delta = choice.get("delta") or {}
            if choice.get("index", 0) != 0:
                continue
            content = _text(delta.get("content"))
            thought = max((_text(delta.get(name)) for name in _THOUGHTS), key=len)
            self._generated += [content, thought]
            self.characters += len(content) + len(thought)
            text += content
            self.thought += thought
            self._finish_reason = _text(choice.get("finish_reason")) or self._finish_reason
        return text


def _text(value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise TypeError
    return value or ""


def _usage(found: object) -> Usage | None:
    """None for what cannot be used: the tokens are estimated then, and the text is good all the same."""
    if not isinstance(found, dict):
        return None
    counts = [found.get("prompt_tokens"), found.get("completion_tokens") or 0]
    prompt, completion = (c if isinstance(c, int) and 0 <= c < 1 << 40 else None for c in counts)
    return Usage(prompt, completion) if prompt is not None and completion is not None else None


def _is_temporary(error: object) -> bool:
    code = error.get("code") if isinstance(error, dict) else None
    return isinstance(code, int) and is_temporary(code)


def is_temporary(status: int) -> bool:
    """Whether a request that got this status may work later."""
    return status == 429 or 500 <= status < 600


def error_text(body: str) -> str:
    """What a server says is wrong, of the shapes that OpenAI's, vLLM's and FastAPI's errors have."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    for name in ("error", "detail", "message"):
        if isinstance(found, dict) and found.get(name):
            found = found[name]
    return quoted(found if isinstance(found, str) else body)


def quoted(text: str, most: int = 200) -> str:
    """One printable line of what a server sent."""
    line = "".join(c if c.isprintable() else " " for c in text[: 4 * most])
    line = " ".join(line.split())
    return line if len(line) <= most else f"{line[:most]}..."
