"""Answers of the model "auto": the router chooses who gives them."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from edgemoe.assistant import Answer, Assistant
from edgemoe.conversation import Message
from edgemoe.server import local
from edgemoe.server.errors import RequestError
from edgemoe.server.prepare import content_text
from edgemoe.server.reply import Progress, Reply
from edgemoe.server.requests import Piece, Request
from edgemoe.server.settings import AUTO
from edgemoe.server.thoughts import ThoughtReader
from edgemoe.thinking import opened_by_prompt

if TYPE_CHECKING:
    from edgemoe.server.service import Service


async def answer(service: Service, assistant: Assistant, request: Request) -> Reply:
    """Has the assistant answer. What only a local model can do stays here."""
    messages = _messages(request)
    if _only_here(request):
        return await _here(service, assistant, request, messages)
    options = dict(request.sampling) | {"stop": list(request.stop) or None, "max_tokens": request.max_tokens}
    options = {key: value for key, value in options.items() if value is not None}
    known = {"private": request.private, "local_only": service.settings.local_only}
    given = await service.in_thread(lambda: assistant.reply(messages, **known, **options))
    reply = Reply(AUTO, Progress(asked=time.monotonic()), given.cancel)
    reply.decision = given.decision
    threading.Thread(target=_deliver, args=(given, reply, assistant), name="edgemoe-answer", daemon=True).start()
    return reply


_LOCAL = ("logit_bias", "top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n")
"""Settings of sampling that the cloud's API does not have."""


def _only_here(request: Request) -> bool:
    """Whether it asks for what only a local model is sure to do, or names tokens, which are that model's own."""
    settings = (request.schema, request.logprobs, request.quality, request.thinking, request.ctx)
    asked = any(value is not None for value in settings)
    return asked or bool(request.tools) or any(name in request.sampling for name in _LOCAL)


async def _here(service: Service, assistant: Assistant, request: Request, messages: list[Message]) -> Reply:
    decision, answered = await service.in_thread(lambda: assistant.decide_here(messages, private=request.private))
    if decision.target is None:
        raise RequestError(decision.refusal or assistant.config.refusal)
    reply = await local.answer(service, decision.target, replace(request, model=decision.target))
    reply.model, reply.decision = AUTO, decision
    reply.on_end(lambda reply: answered(reply.said))
    return reply


def _deliver(given: Answer, reply: Reply, assistant: Assistant) -> None:
    """On a thread of its own: from the assistant's pieces to the reply's."""
    reader: ThoughtReader | None = None
    try:
        with closing(given):
            for text in given:
                if reply.progress.first_token is None:
                    reply.progress.first_token = time.monotonic()
                reader = reader or ThoughtReader(_opened(given, assistant))
                for piece in reader.read(Piece(text)):
                    reply.deliver(piece)
    except BaseException as error:
        _take_account(given, reply)
        reply.deliver(error)
        return
    _take_account(given, reply)
    last = Piece(finish_reason=given.finish_reason or "stop")
    for piece in [last] if reader is None else reader.read(last):
        reply.deliver(piece)


def _opened(given: Answer, assistant: Assistant) -> str | None:
    """The closing tag of the thoughts that the local model's template has opened; the cloud sends both tags."""
    hosted = assistant.models.loaded.get(given.answered_by[-1]) if given.answered_by else None
    return None if hosted is None else opened_by_prompt(hosted.llm)


def _take_account(given: Answer, reply: Reply) -> None:
    reply.answered_by, reply.notes, reply.cost = list(given.answered_by), list(given.notes), given.cost
    local_route = given.decision.route == "local"
    reply.escalated = local_route and given.answered_by[-1:] not in ([], [given.decision.target])
    if given.usage is not None:
        reply.progress.prompt_tokens = given.usage.prompt_tokens
        reply.progress.completion_tokens = given.usage.completion_tokens


def _messages(request: Request) -> list[Message]:
    if asked := request.messages:
        for message in asked:
            content_text(message.get("content"))  # the cloud would get an empty text in place of an image
        # without earlier thoughts, which some endpoints refuse
        return [{key: value for key, value in message.items() if key != "reasoning_content"} for message in asked]
    if not isinstance(request.prompt, str):
        raise RequestError("the model 'auto' needs a prompt that is text, not tokens", param="prompt")
    return [{"role": "user", "content": request.prompt}]
