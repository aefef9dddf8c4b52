"""From a request to what the engine computes: the prompt's tokens, the samplers, what ends the answer."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from edgemoe.conversation import Message, render
from edgemoe.errors import ModelError
from edgemoe.server.errors import RequestError, TooLong
from edgemoe.server.generation import Job
from edgemoe.server.grammar import grammar_of
from edgemoe.server.reply import Progress
from edgemoe.server.requests import DEFAULTS, Request, Sampling
from edgemoe.server.sampling import Mark, Sampler, fresh_seed
from edgemoe.server.thoughts import ThoughtReader, told_to_think
from edgemoe.server.tokens import Tokenizer
from edgemoe.server.tools import BEGIN, END, ToolReader, forced, strict_calls, told
from edgemoe.server.vocabulary import Vocabulary
from edgemoe.thinking import opened_by

_SAMPLING = {field.name for field in fields(Sampling)}


Reader = ToolReader | ThoughtReader


def prepare(llm: Any, request: Request, ctx: int, defaults: Mapping[str, Any]) -> tuple[Job, list[Reader]]:
    """The job for `llm`, whose sequences have `ctx` tokens, and what reads thoughts and tool calls from its text.

    `defaults` are the sampling settings of the model's configuration.

    Raises:
        TooLong: the prompt leaves no room for an answer.
        RequestError: the template refuses the messages, or the schema cannot be used.
    """
    name, schema = forced(request)
    readers: list[Reader] = []
    if request.tools and request.tool != "none":
        readers.append(ToolReader(name, whole=schema is not None))
    elif request.schema is not None:
        schema = request.schema
    tokens, ends = _prompt(llm, request, ctx)
    if request.tools and request.tool == "auto" and not request.parallel:
        ends = [*ends, END]
    if request.messages and schema is None:  # a form leaves no room for thoughts
        readers.insert(0, ThoughtReader(opened_by(llm, tokens)))
    limit = min(ctx, request.ctx or ctx)
    room = limit - len(tokens)
    if room < 1:
        larger = "start the server with a larger --ctx" if limit == ctx else "ask for a larger context"
        raise TooLong(
            f"the prompt has {len(tokens)} tokens, and the context holds {limit}, the answer included: shorten it, or "
            f"{larger}",
            param="messages" if request.messages else "prompt",
        )
    asked = {**DEFAULTS, **defaults, **request.sampling}
    sampling = Sampling(**{key: value for key, value in asked.items() if key in _SAMPLING})
    seed = fresh_seed() if sampling.seed is None else sampling.seed
    grammar, mark = (grammar_of(schema), None) if schema is not None else _of_calls(llm, request)
    most = request.max_tokens if request.max_tokens is not None else asked.get("max_tokens")
    return Job(
        prompt=tokens,
        sampler=Sampler(llm._model, llm.n_vocab(), sampling, seed, grammar, mark),
        max_tokens=min(most or room, room),
        stop=request.stop or tuple(asked.get("stop") or ()),
        ends=ends,
        logprobs=request.logprobs,
        quality=request.quality,
        progress=Progress(prompt_tokens=len(tokens), asked=time.monotonic()),
    ), readers


def _of_calls(llm: Any, request: Request) -> tuple[str | None, Mark | None]:
    """The grammar of calls that the model may make, and what it waits for."""
    grammar = strict_calls(request)
    if grammar is None:
        return None, None
    mark = Mark(BEGIN.encode(), Vocabulary(llm, special=True).piece, partial(llm.tokenize, add_bos=False))
    return grammar, mark


def count(llm: Any, request: Request, ctx: int) -> int:
    """Tokens of the prompt. Raises TooLong where they are far more than `ctx`."""
    return len(_prompt(llm, request, ctx)[0])


def _prompt(llm: Any, request: Request, ctx: int) -> tuple[list[int], list[str]]:
    """Its tokens, and what ends an answer to it."""
    llm = Tokenizer(llm, ctx, "messages" if request.messages else "prompt")
    llm.check(sum(map(_length, request.messages)))  # before a template makes copies of it
    if isinstance(request.prompt, tuple):
        return list(request.prompt), []
    if request.prompt is not None:
        bos = llm._model.add_bos_token() and llm.token_bos() >= 0
        tokens = llm.tokenize(request.prompt.encode("utf-8", "replace"), add_bos=False, special=True)
        return [llm.token_bos()] * bool(bos) + tokens or [max(llm.token_bos(), 0)], []
    messages = [_for_template(message) for message in request.messages]
    tools = {"tools": list(request.tools)} if request.tools and request.tool != "none" else {}
    if tools and "tools" not in llm.metadata.get("tokenizer.chat_template", ""):
        messages, tools = told(messages, tools["tools"]), {}
    try:
        rendered = render(told_to_think(llm, request.thinking), messages, **tools)
    except ModelError as error:
        raise RequestError(str(error), param="messages") from error
    return rendered.tokens, rendered.stop


def _length(message: Message) -> int:
    content = message.get("content") or ""
    return len(content) if isinstance(content, str) else sum(len(part.get("text") or "") for part in content)


def _for_template(message: Message) -> Message:
    """As the chat templates of models want it: content as one text, arguments of calls as objects."""
    found = {key: value for key, value in message.items() if value is not None}
    found["content"] = content_text(message.get("content"))
    if calls := message.get("tool_calls"):
        found["tool_calls"] = [_with_object(call) for call in calls]
    return found


def content_text(content: str | Sequence[Mapping[str, Any]] | None) -> str:
    """The text of a message's content. Raises RequestError where a part of it is something else, such as an image."""
    if content is None or isinstance(content, str):
        return content or ""
    if other := [part.get("type") for part in content if part.get("type") != "text"]:
        raise RequestError(f"a content of type {other[0]!r} cannot be used: the model reads text", param="messages")
    return "".join(str(part.get("text", "")) for part in content)


def _with_object(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"])
    except (TypeError, ValueError):
        return call
    return {**call, "function": {**function, "arguments": arguments}}
