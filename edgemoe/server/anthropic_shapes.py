"""Anthropic's words for requests, pieces and answers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from edgemoe.server.anthropic_types import (
    CountRequest,
    Message,
    MessagesRequest,
    RedactedThought,
    Text,
    Thought,
    Tool,
    ToolResult,
    ToolUse,
)
from edgemoe.server.errors import RequestError
from edgemoe.server.fields import sampling_of
from edgemoe.server.reply import Reply
from edgemoe.server.requests import Piece, Request, Thinking

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "refused": "refusal"}
_CHOICES = {"auto": "auto", "any": "any", "none": "none"}
_FAILED = "Error: "
"""What stands before the result of a tool that has failed."""


def request_of(body: CountRequest) -> Request:
    """What a body asks for."""
    choice = body.tool_choice
    tool = "auto" if choice is None else _CHOICES.get(choice.type) or choice.name
    if tool is None:
        raise RequestError("tool_choice.name: the type 'tool' needs one", param="tool_choice.name")
    system = body.system if isinstance(body.system, str) else "".join(text.text for text in body.system or ())
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for message in body.messages:
        messages += _messages(message)
    form = body.output_config.format if body.output_config is not None else None
    asked = Request(
        model=body.model,
        messages=tuple(messages),
        tools=tuple(map(_function, body.tools or ())),
        tool=tool,
        parallel=choice is None or not choice.disable_parallel_tool_use,
        thinking=_thinking(body),
        schema=form.schema_ if form is not None else None,
    )
    return _with_settings(asked, body) if isinstance(body, MessagesRequest) else asked


def _function(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    strict = {"strict": True} if tool.strict else {}
    return {
        "type": "function",
        "function": {"name": tool.name, **described, "parameters": tool.input_schema, **strict},
    }


def _thinking(body: CountRequest) -> Thinking | None:
    """An effort says more than that the model may think; but where it may not, there is none."""
    effort = body.output_config.effort if body.output_config is not None else None
    if body.thinking is not None and (effort is None or body.thinking.type == "disabled"):
        return Thinking(body.thinking.type != "disabled", "thinking")
    return Thinking(effort, "output_config.effort") if effort is not None else None


def _with_settings(asked: Request, body: MessagesRequest) -> Request:
    return replace(
        asked,
        sampling=sampling_of(body),
        max_tokens=body.max_tokens,
        stop=tuple(body.stop_sequences or ()),
        quality=body.quality,
        private=bool(body.private),
    )


def _messages(message: Message) -> Iterator[dict[str, Any]]:
    """In OpenAI's words: results of tools are messages of their own."""
    if isinstance(message.content, str):
        yield {"role": message.role, "content": message.content}
        return
    said: dict[str, Any] = {}
    texts: list[str] = []
    for block in message.content:
        if isinstance(block, ToolResult):
            yield _result(block)
        elif isinstance(block, ToolUse):
            function = {"name": block.name, "arguments": json.dumps(block.input)}
            said.setdefault("tool_calls", []).append({"id": block.id, "type": "function", "function": function})
        elif isinstance(block, Thought):
            said["reasoning_content"] = said.get("reasoning_content", "") + block.thinking
        elif isinstance(block, Text):
            texts.append(block.text)
        else:
            assert isinstance(block, RedactedThought)
    if said or texts:
        yield {"role": message.role, "content": "".join(texts), **said}


def _result(block: ToolResult) -> dict[str, Any]:
    content = block.content if isinstance(block.content, str) else "".join(text.text for text in block.content or ())
    return {
        "role": "tool",
        "tool_call_id": block.tool_use_id,
        "content": f"{_FAILED}{content}" if block.is_error else content,
    }


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
