"""Anthropic's words for requests, pieces and answers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from edgemoe.server.anthropic_types import Block, CountRequest, Message, MessagesRequest
from edgemoe.server.errors import RequestError
from edgemoe.server.reply import Reply
from edgemoe.server.requests import Piece, Request

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "refused": "refusal"}
_CHOICES = {"auto": "auto", "any": "any", "none": "none"}
_LEFT_OUT = ("thinking", "redacted_thinking")


def request_of(body: CountRequest) -> Request:
    """What a body asks for."""
    tools = tuple(
        {
            "type": "function",
            "function": {
                "name": tool.name,
                **({"description": tool.description} if tool.description else {}),
                "parameters": tool.input_schema,
            },
        }
        for tool in body.tools or ()
    )
    choice = body.tool_choice
    tool = "auto" if choice is None else _CHOICES.get(choice.type) or choice.name
    if tool is None:
        raise RequestError("a tool_choice of type 'tool' needs a name", param="tool_choice")
    system = body.system if isinstance(body.system, str) else _text(body.system or [])
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for message in body.messages:
        messages += _messages(message)
    asked = Request(model=body.model, messages=tuple(messages), tools=tools, tool=tool)
    return _with_settings(asked, body) if isinstance(body, MessagesRequest) else asked


def _with_settings(asked: Request, body: MessagesRequest) -> Request:
    names = ("temperature", "top_p", "top_k")
    form = body.output_config.format if body.output_config is not None else None
    return replace(
        asked,
        sampling={name: value for name in names if (value := getattr(body, name)) is not None},
        max_tokens=body.max_tokens,
        stop=tuple(body.stop_sequences or ()),
        quality=body.quality,
        private=bool(body.private),
        schema=form.schema_ if form is not None else None,
    )


def _messages(message: Message) -> Iterator[dict[str, Any]]:
    """In OpenAI's words: results of tools are messages of their own."""
    if isinstance(message.content, str):
        yield {"role": message.role, "content": message.content}
        return
    rest: list[Block] = []
    calls: list[dict[str, Any]] = []
    for block in message.content:
        if block.type == "tool_result":
            content = block.content if isinstance(block.content, str) else _text(block.content or [])
            yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}
        elif block.type == "tool_use":
            function = {"name": block.name, "arguments": json.dumps(block.input)}
            calls.append({"id": block.id, "type": "function", "function": function})
        else:
            rest.append(block)
    if rest or calls:
        thought = "".join(block.thinking for block in rest if block.type == "thinking")
        thoughts = {"reasoning_content": thought} if thought else {}
        yield {"role": message.role, "content": _text(rest)} | thoughts | ({"tool_calls": calls} if calls else {})


def _text(blocks: Sequence[Block]) -> str:
    used = [block for block in blocks if block.type not in _LEFT_OUT]
    if other := [block.type for block in used if block.type != "text"]:
        raise RequestError(f"a content of type {other[0]!r} cannot be used: the model reads text", param="messages")
    return "".join(block.text for block in used)


def new_id() -> str:
    """Of a message."""
    return f"msg_{secrets.token_hex(12)}"


def answer(id: str, reply: Reply, pieces: Sequence[Piece]) -> dict[str, Any]:
    """A whole answer."""
    content: list[dict[str, Any]] = []
    for piece in pieces:
        if piece.thought and content and content[-1]["type"] == "thinking":
            content[-1]["thinking"] += piece.thought
        elif piece.thought:
            content.append({"type": "thinking", "thinking": piece.thought, "signature": ""})
        if piece.text and content and content[-1]["type"] == "text":
            content[-1]["text"] += piece.text
        elif piece.text:
            content.append({"type": "text", "text": piece.text})
        if piece.tool_call is not None:
            content.append(_tool_use(piece) | {"input": json.loads(piece.tool_call.arguments or "{}")})
    return message(id, reply) | {"content": content} | ending(pieces[-1]) | {"usage": usage_of(reply)}


def message(id: str, reply: Reply) -> dict[str, Any]:
    """What every message begins with."""
    name = reply.answered_by[-1] if reply.answered_by else reply.model
    return {"id": id, "type": "message", "role": "assistant", "model": name}


def ending(piece: Piece) -> dict[str, Any]:
    """Why an answer ended."""
    reason = _REASONS.get(piece.finish_reason or "stop", "end_turn")
    return {"stop_reason": "stop_sequence" if piece.stop else reason, "stop_sequence": piece.stop}


def usage_of(reply: Reply) -> dict[str, int]:
    """Tokens of a request."""
    return {"input_tokens": reply.progress.prompt_tokens, "output_tokens": reply.progress.completion_tokens}


class Blocks:
    """The events of a stream between the first and the last: contents that begin, grow and end."""

    def __init__(self) -> None:
        self._index = -1
        self._open: str | None = None  # the type of the content that is open

    def of(self, piece: Piece) -> Iterator[dict[str, Any]]:
        """The events of one piece."""
        if piece.thought:
            if self._open != "thinking":
                yield from self.end()
                yield from self._begin({"type": "thinking", "thinking": "", "signature": ""})
            yield self._delta({"type": "thinking_delta", "thinking": piece.thought})
        if piece.text:
            if self._open != "text":
                yield from self.end()
                yield from self._begin({"type": "text", "text": ""})
            yield self._delta({"type": "text_delta", "text": piece.text})
        if piece.tool_call is not None:
            yield from self.end()
            yield from self._begin(_tool_use(piece) | {"input": {}})
            yield self._delta({"type": "input_json_delta", "partial_json": piece.tool_call.arguments})
            yield from self.end()

    def end(self) -> Iterator[dict[str, Any]]:
        """Of the content that is open, if one is."""
        if self._open is not None:
            self._open = None
            yield {"type": "content_block_stop", "index": self._index}

    def _begin(self, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self._index += 1
        self._open = str(block["type"])
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}


def _tool_use(piece: Piece) -> dict[str, Any]:
    assert piece.tool_call is not None
    return {"type": "tool_use", "id": piece.tool_call.id.replace("call_", "toolu_", 1), "name": piece.tool_call.name}


def error_body(error: RequestError) -> dict[str, Any]:
    """An error in Anthropic's words."""
    return {"type": "error", "error": {"type": error.kind, "message": str(error)}}
