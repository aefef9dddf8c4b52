"""Anthropic's API: /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from edgemoe.server.access import Served
from edgemoe.server.anthropic_shapes import (
    Blocks,
    answer,
    ending,
    error_body,
    message,
    new_id,
    request_of,
    usage_of,
)
from edgemoe.server.anthropic_types import Answer, CountRequest, ErrorBody, MessagesRequest, TokenCount
from edgemoe.server.errors import RequestError
from edgemoe.server.reply import Reply
from edgemoe.server.requests import Piece
from edgemoe.server.streams import PING, event, streamed, unless_gone

__all__ = ["PATHS", "error_body", "error_event", "router"]

NAME = "anthropic"
PATHS = ("/v1/messages",)
STATUSES = (400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503)
router = APIRouter(prefix="/v1", tags=["Anthropic"], responses={status: {"model": ErrorBody} for status in STATUSES})
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer; with `stream` as server-sent events.", "content": {"text/event-stream": {}}}
}


def error_event(error: RequestError) -> bytes:
    """An error in a stream."""
    return event(error_body(error), "error")


@router.post("/messages", response_model=Answer, responses=_STREAM)
async def messages(body: MessagesRequest, request: Request, service: Served) -> Response:
    """The next message of a conversation."""
    reply = await unless_gone(request, service.chat(request_of(body), NAME))
    if body.stream:
        return await streamed(request, [reply], _events(reply), error_event, PING)
    pieces = await unless_gone(request, _collected(reply))
    return JSONResponse(answer(new_id(), reply, pieces))


@router.post("/messages/count_tokens")
async def count_tokens(body: CountRequest, request: Request, service: Served) -> TokenCount:
    """Tokens of the prompt that such a conversation becomes."""
    return TokenCount(input_tokens=await unless_gone(request, service.count_tokens(request_of(body))))


async def _collected(reply: Reply) -> list[Piece]:
    async with reply:
        return [piece async for piece in reply]


async def _events(reply: Reply) -> AsyncIterator[bytes]:
    begun = False
    blocks = Blocks()
    async for piece in reply:
        if not begun:
            begun = True
            nothing: dict[str, Any] = {
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": usage_of(reply),
            }
            yield _event({"type": "message_start", "message": message(new_id(), reply) | nothing})
        for found in blocks.of(piece):
            yield _event(found)
        if piece.finish_reason is not None:
            for found in blocks.end():
                yield _event(found)
            yield _event({"type": "message_delta", "delta": ending(piece), "usage": usage_of(reply)})
            yield _event({"type": "message_stop"})


def _event(data: dict[str, Any]) -> bytes:
    return event(data, data["type"])
