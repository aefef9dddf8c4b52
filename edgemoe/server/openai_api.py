"""OpenAI's API: /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/models."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from edgemoe.server import requests
from edgemoe.server.access import Served
from edgemoe.server.errors import RequestError
from edgemoe.server.openai_shapes import (
    Shape,
    chat_request,
    completion_requests,
    error_body,
    story_of,
    usage_of,
)
from edgemoe.server.openai_types import (
    Answer,
    ChatRequest,
    CompletionRequest,
    EmbeddingList,
    EmbeddingRequest,
    ErrorBody,
    Model,
    ModelList,
)
from edgemoe.server.reply import Reply
from edgemoe.server.service import Service
from edgemoe.server.streams import event, merged, streamed, unless_gone

__all__ = ["PATHS", "error_body", "error_event", "router"]

NAME = "openai"
PATHS = ("/v1/",)
STATUSES = (400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503)
router = APIRouter(prefix="/v1", tags=["OpenAI"], responses={status: {"model": ErrorBody} for status in STATUSES})
_DONE = b"data: [DONE]\n\n"
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer; with `stream` as server-sent events.", "content": {"text/event-stream": {}}}
}


def error_event(error: RequestError) -> bytes:
    """An error in a stream."""
    return event(error_body(error))


@router.post("/chat/completions", response_model=Answer, responses=_STREAM)
async def chat(body: ChatRequest, request: Request, service: Served) -> Response:
    """The next message of a conversation."""
    return await _answered(request, service, [chat_request(body)], body, chat=True)


@router.post("/completions", response_model=Answer, responses=_STREAM)
async def completions(body: CompletionRequest, request: Request, service: Served) -> Response:
    """Continuations of texts."""
    if body.echo and (body.logprobs is not None or not isinstance(body.prompt, str)):
        raise RequestError("echo works for one prompt that is text, without logprobs", param="echo")
    return await _answered(request, service, completion_requests(body), body, chat=False)


async def _answered(
    request: Request,
    service: Service,
    asked: list[requests.Request],
    body: ChatRequest | CompletionRequest,
    *,
    chat: bool,
) -> Response:
    """`n` answers to each of `asked`."""
    wanted = [variant for one in asked for variant in _variants(one, body.n or 1)]
    if len(wanted) > service.most:
        raise RequestError(
            f"{len(wanted)} answers are asked for, and this server takes {service.most} at once", param="n"
        )
    replies = await unless_gone(request, _begin(service, wanted))
    shape = Shape(chat, replies[0].decision.target or replies[0].model if replies[0].decision else replies[0].model)
    before = body.prompt if isinstance(body, CompletionRequest) and body.echo and isinstance(body.prompt, str) else ""
    if body.stream:
        usage = bool(body.stream_options and body.stream_options.include_usage)
        events = _events(shape, replies, len(asked), before, usage=usage)
        return await streamed(request, replies, events, error_event)
    pieces = await unless_gone(request, _collected(replies))
    choices = [shape.whole(i, found, before) for i, found in enumerate(pieces)]
    shape.model = replies[0].answered_by[-1] if replies[0].answered_by else shape.model
    answer = shape.head("chat.completion" if chat else "text_completion") | {"choices": choices}
    return JSONResponse(answer | {"usage": usage_of(replies, len(asked))} | story_of(replies[0]))


def _variants(request: requests.Request, n: int) -> list[requests.Request]:
    """The request `n` times, each with a seed of its own where there is one."""
    seed = request.sampling.get("seed")
    if seed is None:
        return [request] * n
    return [replace(request, sampling={**request.sampling, "seed": (seed + i) % (1 << 32)}) for i in range(n)]


async def _begin(service: Service, wanted: Sequence[requests.Request]) -> list[Reply]:
    """All of them, or none."""
    replies: list[Reply] = []
    try:
        for one in wanted:
            replies.append(await service.chat(one, NAME))
    except BaseException:
        for reply in replies:
            await reply.aclose()
        raise
    return replies


async def _collected(replies: Sequence[Reply]) -> list[list[requests.Piece]]:
    """All pieces of all replies."""
    found: list[list[requests.Piece]] = [[] for _ in replies]
    try:
        async for i, piece in merged(replies):
            found[i].append(piece)
    finally:
        for reply in replies:
            await reply.aclose()
    return found


async def _events(
    shape: Shape, replies: Sequence[Reply], prompts: int, before: str, *, usage: bool
) -> AsyncIterator[bytes]:
    none = {"usage": None} if usage else {}
    begun: set[int] = set()
    async for i, piece in merged(replies):
        if i not in begun:
            begun.add(i)
            if shape.chat:
                yield event(shape.chunk([shape.begun(i)], **none))
            elif before:
                piece = replace(piece, text=before + piece.text)
        if piece.text or piece.thought or piece.tool_call or piece.logprobs or piece.finish_reason:
            yield event(shape.chunk([shape.choice(i, piece)], **none))
    if usage:
        yield event(shape.chunk([], usage=usage_of(replies, prompts), **story_of(replies[0])))
    yield _DONE


@router.get("/models")
async def models(service: Served) -> ModelList:
    """The models that requests may name, the default one first."""
    loaded = service.loaded
    return ModelList(data=[_model(service, name, loaded) for name in service.settings.names])


@router.get("/models/{name:path}")
async def model(name: str, service: Served) -> Model:
    """One of them."""
    return _model(service, service.resolve(name), service.loaded)


def _model(service: Service, name: str, loaded: Sequence[str]) -> Model:
    return Model(id=name, created=service.created, loaded=name in loaded)


@router.post("/embeddings")
async def embeddings(body: EmbeddingRequest, request: Request, service: Served) -> EmbeddingList:
    """Texts as vectors, by a model that was trained for them."""
    found: Any = body.input
    texts = [found] if isinstance(found, str) or isinstance(found[0], int) else found
    made = await unless_gone(request, service.embed(body.model, texts, NAME, dimensions=body.dimensions))
    data = [
        {"index": i, "embedding": _packed(vector) if body.encoding_format == "base64" else vector}
        for i, vector in enumerate(made.vectors)
    ]
    usage = {"prompt_tokens": made.tokens, "total_tokens": made.tokens}
    return EmbeddingList.model_validate({"data": data, "model": made.model, "usage": usage})


def _packed(vector: Sequence[float]) -> str:
    """As little-endian 32-bit floats in base64, which is what OpenAI's own client asks for."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
