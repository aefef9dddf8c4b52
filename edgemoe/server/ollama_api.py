"""ollama's API: /api/chat, /api/generate, /api/embed, /api/tags, /api/show, /api/ps, /api/version."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from edgemoe import __version__
from edgemoe.errors import EdgeMoEError
from edgemoe.server import ollama_models, requests
from edgemoe.server.access import Served
from edgemoe.server.durations import parse_keep_alive
from edgemoe.server.errors import RequestError
from edgemoe.server.ollama_shapes import Shape, chat_request, content, error_body, generate_request, head, nanoseconds
from edgemoe.server.ollama_types import (
    Answer,
    AskRequest,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    ErrorBody,
    GenerateRequest,
    LoadedList,
    ModelList,
    Shown,
    ShowRequest,
    Version,
)
from edgemoe.server.reply import Reply
from edgemoe.server.requests import Piece
from edgemoe.server.service import Service
from edgemoe.server.settings import AUTO
from edgemoe.server.streams import line, streamed, unless_gone

__all__ = ["PATHS", "error_body", "error_event", "router"]

NAME = "ollama"
PATHS = ("/api/",)
STATUSES = (400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503)
OLLAMA = "0.12.6"
"""The version of ollama whose API this is."""
LINES = "application/x-ndjson"
router = APIRouter(tags=["ollama"], responses={status: {"model": ErrorBody} for status in STATUSES})
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer; unless `stream` is false, as lines of JSON.", "content": {LINES: {}}}
}


def error_event(error: RequestError) -> bytes:
    """An error in a stream."""
    return line(error_body(error))


@router.post("/api/chat", response_model=Answer, responses=_STREAM)
async def chat(body: ChatRequest, request: Request, service: Served) -> Response:
    """The next message of a conversation."""
    if not body.messages:
        return await _loaded(request, service, body, chat=True)
    return await _answered(request, service, body, chat_request(body), chat=True)


@router.post("/api/generate", response_model=Answer, responses=_STREAM)
async def generate(body: GenerateRequest, request: Request, service: Served) -> Response:
    """The answer to one prompt."""
    if not body.prompt:
        return await _loaded(request, service, body, chat=False)
    return await _answered(request, service, body, generate_request(body), chat=False)


async def _answered(
    request: Request, service: Service, body: AskRequest, asked: requests.Request, *, chat: bool
) -> Response:
    keep = _keeping(service, body)
    reply = await unless_gone(request, service.chat(asked, NAME))
    keep()
    shape = Shape(chat, body.model, reply)
    if body.stream is False:
        return JSONResponse(shape.part(await unless_gone(request, _collected(reply))))
    sign_of_life = line(shape.part([]))
    return await streamed(request, [reply], _lines(shape, reply), error_event, sign_of_life, LINES)


async def _collected(reply: Reply) -> list[Piece]:
    async with reply:
        return [piece async for piece in reply]


async def _lines(shape: Shape, reply: Reply) -> AsyncIterator[bytes]:
    """The last piece's text has a line of its own, as with ollama: some programs ignore that of the last line."""
    async for piece in reply:
        text = replace(piece, finish_reason=None, stop=None)
        if text != Piece():
            yield line(shape.part([text]))
        if piece.finish_reason is not None:
            yield line(shape.part([Piece(finish_reason=piece.finish_reason)]))


async def _loaded(request: Request, service: Service, body: AskRequest, *, chat: bool) -> Response:
    """Nothing is asked: the model is loaded, or with a `keep_alive` of 0 unloaded."""
    began = time.monotonic()
    name, keep = service.resolve(body.model), _keeping(service, body)
    unload = body.keep_alive not in (None, "") and parse_keep_alive(body.keep_alive) == 0
    if not unload and name != AUTO:
        _, give_back = await unless_gone(request, service.take(name))
        give_back()
    keep()
    times = dict.fromkeys(("total_duration", "load_duration"), nanoseconds(time.monotonic() - began))
    done = {"done": True, "done_reason": "unload" if unload else "load"}
    found = head(body.model) | content(chat, "") | done | times
    if body.stream is False:
        return JSONResponse(found)
    return Response(line(found), media_type=LINES)


def _keeping(service: Service, body: AskRequest | EmbedRequest) -> Callable[[], None]:
    """What has a model that is loaded stay for as long as the request says.

    Raises:
        EdgeMoEError: it says no time.
    """
    name = service.resolve(body.model)
    if body.keep_alive is None or body.keep_alive == "" or name == AUTO:
        return lambda: None
    try:
        seconds = parse_keep_alive(body.keep_alive)
    except EdgeMoEError as error:
        raise RequestError(f"keep_alive: {error}", param="keep_alive") from error
    return lambda: service.keeper.keep(name, seconds)


@router.post("/api/embed")
async def embed(body: EmbedRequest, request: Request, service: Served) -> Embeddings:
    """Texts as vectors, by a model that was trained for them."""
    began = time.monotonic()
    keep = _keeping(service, body)
    texts = [body.input] if isinstance(body.input, str) else list(body.input)
    asked = service.embed(
        body.model,
        texts,
        NAME,
        dimensions=body.dimensions,
        truncate=bool(body.truncate),
        most=body.options.num_ctx if body.options is not None else None,
    )
    made = await unless_gone(request, asked)
    keep()
    total = nanoseconds(time.monotonic() - began)
    return Embeddings(
        model=body.model,
        embeddings=made.vectors,
        total_duration=total,
        load_duration=0,
        prompt_eval_count=made.tokens,
    )


@router.get("/api/tags")
async def tags(service: Served) -> ModelList:
    """The models that requests may name, the default one first."""
    names = service.settings.names
    return ModelList(models=await asyncio.to_thread(lambda: [ollama_models.listed(service, name) for name in names]))


@router.get("/api/ps")
async def ps(service: Served) -> LoadedList:
    """The models in memory."""
    names = service.loaded
    found = await asyncio.to_thread(lambda: [ollama_models.loaded(service, name) for name in names])
    return LoadedList(models=[one for one in found if one is not None])


@router.post("/api/show")
async def show(body: ShowRequest, service: Served) -> Shown:
    """What a model's file says of it."""
    asked = body.model or body.name
    if not asked:
        raise RequestError("model: which one is to be shown?", param="model")
    name = service.resolve(asked)
    return await asyncio.to_thread(lambda: ollama_models.shown(service, name))


@router.get("/api/version")
async def version() -> Version:
    """Which API this is."""
    return Version(version=OLLAMA, edgemoe=__version__)


@router.head("/", include_in_schema=False)
@router.head("/api/tags", include_in_schema=False)
@router.head("/api/version", include_in_schema=False)
async def there() -> Response:
    """Programs look in this way whether a server is there."""
    return Response()
