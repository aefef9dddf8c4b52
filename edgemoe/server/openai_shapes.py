"""OpenAI's words for requests, pieces and answers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgemoe.server.errors import RequestError
from edgemoe.server.fields import sampling_of, stops_of
from edgemoe.server.openai_types import ChatMessage, ChatRequest, CompletionRequest, SampledRequest, ToolChoice
from edgemoe.server.reply import Reply
from edgemoe.server.requests import Piece, Request, Thinking, TokenLogprob, ToolCall

_REASONS = {"refused": "content_filter"}


def chat_request(body: ChatRequest) -> Request:
    """What a chat asks for."""
    schema = None
    if (wanted := body.response_format) is not None and wanted.type != "text":
        schema = wanted.json_schema.schema_ if wanted.json_schema is not None else wanted.schema_ or {}
    choice = body.tool_choice
    tool = choice.function.name if isinstance(choice, ToolChoice) else {"required": "any"}.get(choice or "", choice)
    return Request(
        messages=tuple(map(_message, body.messages)),
        schema=schema,
        tools=tuple(tool.model_dump(exclude_none=True) for tool in body.tools or ()),
        tool=tool or "auto",
        parallel=body.parallel_tool_calls is not False,
        thinking=_thinking(body.reasoning_effort),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        **_common(body, body.max_completion_tokens or body.max_tokens),
    )


def completion_requests(body: CompletionRequest) -> list[Request]:
    """What a completion asks for, one for each prompt."""
    found: Any = body.prompt
    prompts = [found] if isinstance(found, str) or isinstance(found[0], int) else found
    common = _common(body, body.max_tokens or 16)  # the API's default
    return [
        Request(prompt=prompt if isinstance(prompt, str) else tuple(prompt), logprobs=body.logprobs, **common)
        for prompt in prompts
    ]


def _common(body: SampledRequest, max_tokens: int | None) -> dict[str, Any]:
    sampling = sampling_of(body)
    if body.logit_bias:
        sampling["logit_bias"] = {int(token): bias for token, bias in body.logit_bias.items()}
    return {
        "model": body.model,
        "sampling": sampling,
        "max_tokens": max_tokens,
        "stop": stops_of(body.stop),
        "quality": body.quality,
        "private": bool(body.private),
    }


def _thinking(effort: str | None) -> Thinking | None:
    if effort is None:
        return None
    return Thinking(False if effort == "none" else effort, "reasoning_effort")


def _message(message: ChatMessage) -> dict[str, Any]:
    found = message.model_dump(exclude_none=True, exclude={"annotations"})
    for part in found["content"] if isinstance(found.get("content"), list) else ():
        part.pop("prompt_cache_breakpoint", None)
    for call in found.get("tool_calls", ()):
        call.pop("index", None)
    if found["role"] == "developer":
        found["role"] = "system"
    return found


@dataclass
class Shape:
    """One answer's id, model and time, and its pieces in OpenAI's words. `chat`, or completions."""

    chat: bool
    model: str
    id: str = field(default="")
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.id = f"{'chatcmpl' if self.chat else 'cmpl'}-{secrets.token_hex(12)}"
        self._calls: dict[int, int] = {}
        self._offsets: dict[int, int] = {}

    def head(self, kind: str) -> dict[str, Any]:
        """What every object begins with."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    # Streams

    def chunk(self, choices: Sequence[Any], **more: Any) -> dict[str, Any]:
        """An event's object."""
        return self.head("chat.completion.chunk" if self.chat else "text_completion") | {"choices": choices} | more

    def begun(self, index: int) -> dict[str, Any]:
        """The first event of a chat's choice."""
        return {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

    def choice(self, index: int, piece: Piece) -> dict[str, Any]:
        """A piece as a choice of an event."""
        reason = _reason(piece.finish_reason)
        logprobs = self.logprobs(index, piece.logprobs)
        if not self.chat:
            return {"index": index, "text": piece.text, "logprobs": logprobs, "finish_reason": reason}
        delta: dict[str, Any] = {"content": piece.text} if piece.text else {}
        if piece.thought:
            delta["reasoning_content"] = piece.thought
        if piece.tool_call is not None:
            number = self._calls[index] = self._calls.get(index, -1) + 1
            delta["tool_calls"] = [{"index": number, **_call(piece.tool_call)}]
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    # Whole answers

    def whole(self, index: int, pieces: Sequence[Piece], before: str = "") -> dict[str, Any]:
        """A choice made of all pieces; `before` is the prompt, if it is wanted back."""
        text = before + "".join(piece.text for piece in pieces)
        reason = _reason(pieces[-1].finish_reason)
        logprobs = self.logprobs(index, [one for piece in pieces for one in piece.logprobs])
        if not self.chat:
            return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        calls = [_call(piece.tool_call) for piece in pieces if piece.tool_call is not None]
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if thought := "".join(piece.thought for piece in pieces):
            message["reasoning_content"] = thought
        if calls:
            message |= {"content": text or None, "tool_calls": calls}
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}

    def logprobs(self, index: int, found: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        """Log-probabilities of tokens, in the form of chats or of completions."""
        if not found:
            return None
        if self.chat:
            content = [_token(t.token, t.logprob) | {"top_logprobs": [_token(*top) for top in t.top]} for t in found]
            return {"content": content, "refusal": None}
        offsets = []
        for token in found:
            offsets.append(self._offsets.get(index, 0))
            self._offsets[index] = offsets[-1] + len(_shown(token.token))
        return {
            "tokens": [_shown(t.token) for t in found],
            "token_logprobs": [t.logprob for t in found],
            "top_logprobs": [{_shown(token): logprob for token, logprob in t.top} for t in found],
            "text_offset": offsets,
        }


def usage_of(replies: Sequence[Reply], prompts: int = 1) -> dict[str, Any]:
    """Tokens of all choices; each of the `prompts` counts once."""
    each = max(1, len(replies) // prompts)
    prompt = sum(reply.progress.prompt_tokens for reply in replies[::each])
    answer = sum(reply.progress.completion_tokens for reply in replies)
    cached = sum(reply.progress.cached_tokens for reply in replies[::each])
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def story_of(reply: Reply) -> dict[str, Any]:
    """Who answered, and why, where the router chose."""
    if reply.decision is None:
        return {}
    chosen = {name: getattr(reply.decision, name) for name in ("route", "target", "reason", "rule", "private")}
    return {"edgemoe": chosen | {"answered_by": reply.answered_by, "notes": reply.notes, "cost": reply.cost}}


def error_body(error: RequestError) -> dict[str, Any]:
    """An error in OpenAI's words."""
    return {"error": {"message": str(error), "type": error.kind, "param": error.param, "code": error.code}}


def _reason(reason: str | None) -> str | None:
    return _REASONS.get(reason, reason) if reason is not None else None


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _token(token: bytes, logprob: float) -> dict[str, Any]:
    return {"token": _shown(token), "logprob": max(logprob, -9999.0), "bytes": list(token)}


def _shown(token: bytes) -> str:
    return token.decode("utf-8", "replace")
