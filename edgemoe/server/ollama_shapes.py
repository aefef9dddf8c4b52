"""ollama's words for requests, pieces and answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from edgemoe.server.errors import RequestError
from edgemoe.server.fields import sampling_of, stops_of
from edgemoe.server.ollama_types import AskRequest, Call, ChatRequest, GenerateRequest, Message, Options
from edgemoe.server.reply import Reply
from edgemoe.server.requests import Piece, Request, Thinking, TokenLogprob, ToolCall

_REASONS = {"length": "length"}
_NANOSECONDS = 1_000_000_000


def chat_request(body: ChatRequest) -> Request:
    """What a chat asks for."""
    tools = tuple(tool.model_dump(exclude_none=True) for tool in body.tools or ())
    return Request(messages=tuple(map(_message, body.messages or ())), tools=tools, **_common(body))


def generate_request(body: GenerateRequest) -> Request:
    """What a continuation asks for: unless it is `raw`, the prompt is a question in a conversation."""
    prompt = body.prompt or ""
    if body.raw:
        return Request(prompt=prompt, **_common(body))
    system = [{"role": "system", "content": body.system}] if body.system else []
    return Request(messages=(*system, {"role": "user", "content": prompt}), **_common(body))


def _schema(body: AskRequest) -> Mapping[str, Any] | None:
    if isinstance(body.format, str):
        return {} if body.format == "json" else None
    return body.format


def _common(body: AskRequest) -> dict[str, Any]:
    options = body.options or Options()
    most, ctx = options.num_predict, options.num_ctx
    return {
        "model": body.model,
        "sampling": sampling_of(options),
        "schema": _schema(body),
        "thinking": Thinking(body.think, "think") if body.think is not None else None,
        "max_tokens": most if most is not None and most > 0 else None,
        "ctx": ctx if ctx is not None and ctx > 0 else None,
        "stop": stops_of(options.stop),
        "quality": options.quality,
        "private": bool(body.private),
        "logprobs": (body.top_logprobs or 0) if body.logprobs else None,
    }


def _message(message: Message) -> dict[str, Any]:
    """In OpenAI's words."""
    found: dict[str, Any] = {"role": message.role, "content": message.content or ""}
    if message.thinking:
        found["reasoning_content"] = message.thinking
    if message.tool_name is not None:
        found["name"] = message.tool_name
    if message.tool_call_id is not None:
        found["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        found["tool_calls"] = [_asked(i, call) for i, call in enumerate(message.tool_calls)]
    return found


def _asked(number: int, call: Call) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": json.dumps(call.function.arguments)}
    return {"id": call.id or f"call_{number}", "type": "function", "function": function}


class Shape:
    """The objects of one answer: of /api/chat (`chat`) or /api/generate. They name the model as the request did."""

    def __init__(self, chat: bool, model: str, reply: Reply) -> None:
        self._chat, self._model, self._reply = chat, model, reply

    def part(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """What `pieces` are together; with the last one, it is done."""
        last = pieces[-1] if pieces else Piece()
        found = head(self._model) | content(self._chat, "".join(piece.text for piece in pieces))
        if thought := "".join(piece.thought for piece in pieces):
            (found["message"] if self._chat else found)["thinking"] = thought
        if calls := [_called(piece.tool_call) for piece in pieces if piece.tool_call is not None]:
            found["message"]["tool_calls"] = calls
        if logprobs := [_logprob(one) for piece in pieces for one in piece.logprobs]:
            found["logprobs"] = logprobs
        if last.finish_reason is None:
            return found | {"done": False}
        done = {"done": True, "done_reason": _REASONS.get(last.finish_reason, "stop")}
        return found | done | counts_of(self._reply)


def head(model: str) -> dict[str, Any]:
    """What every object begins with."""
    return {"model": model, "created_at": as_time(datetime.now(timezone.utc).timestamp())}


def content(chat: bool, text: str) -> dict[str, Any]:
    """Where the text of an answer is."""
    return {"message": {"role": "assistant", "content": text}} if chat else {"response": text}


def counts_of(reply: Reply) -> dict[str, int]:
    """Tokens, and times in nanoseconds. Waiting for a place counts with the prompt."""
    progress = reply.progress
    ended = progress.ended or progress.asked
    loaded = progress.loaded or progress.asked
    first = progress.first_token or ended
    return {
        "total_duration": nanoseconds(ended - progress.asked),
        "load_duration": nanoseconds(loaded - progress.asked),
        "prompt_eval_count": progress.prompt_tokens,
        "prompt_eval_duration": nanoseconds(first - loaded),
        "eval_count": progress.completion_tokens,
        "eval_duration": nanoseconds(ended - first),
    }


def nanoseconds(seconds: float) -> int:
    """Not below 0."""
    return max(0, round(seconds * _NANOSECONDS))


def as_time(seconds: float) -> str:
    """Seconds since 1970 as ollama's clients read them."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _called(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:  # the model's own words
        arguments = call.arguments
    arguments = arguments if isinstance(arguments, dict) else {"arguments": arguments}
    return {"id": call.id, "function": {"name": call.name, "arguments": arguments}}


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    return _token(token.token, token.logprob) | {"top_logprobs": [_token(*top) for top in token.top]}


def _token(token: bytes, logprob: float) -> dict[str, Any]:
    return {"token": token.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(token)}


def error_body(error: RequestError) -> dict[str, Any]:
    """An error in ollama's words."""
    return {"error": str(error)}
