"""Answers as server-sent events or lines of JSON, and clients that hang up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse

from edgemoe.server.errors import Gone, RequestError, as_request_error
from edgemoe.server.reply import Reply
from edgemoe.server.requests import Piece

T = TypeVar("T")

FIRST = 2.0
"""Seconds that a stream waits for its first event, so that what goes wrong until then has a status of its own."""
HEARTBEAT = 10.0
"""Seconds between signs of life while a long prompt is computed."""


def event(data: Any, name: str | None = None) -> bytes:
    """One event; `data` becomes JSON."""
    head = f"event: {name}\n" if name is not None else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def line(data: Any) -> bytes:
    """One line of JSON."""
    return json.dumps(data, ensure_ascii=False).encode() + b"\n"


COMMENT = b": computing\n\n"
"""A sign of life that clients skip."""
PING = event({"type": "ping"}, "ping")
"""Anthropic's."""


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What `work` returns; when the client hangs up before, it is cancelled.

    Raises:
        Gone: the client has gone; nobody reads it.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
            raise Gone("the client has gone")
        return working.result()
    finally:
        gone.cancel()
        if not working.done():
            working.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def merged(replies: Sequence[Reply]) -> AsyncIterator[tuple[int, Piece]]:
    """The pieces of all replies as they come, with the number of the reply."""
    waiting = {asyncio.ensure_future(anext(reply)): i for i, reply in enumerate(replies)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                i = waiting.pop(task)
                piece = task.result()
                yield i, piece
                if piece.finish_reason is None:
                    waiting[asyncio.ensure_future(anext(replies[i]))] = i
    finally:
        for task in waiting:
            task.cancel()


async def streamed(
    request: Request,
    replies: Sequence[Reply],
    events: AsyncIterator[bytes],
    error_event: Callable[[RequestError], bytes],
    heartbeat: bytes = COMMENT,
    media_type: str = "text/event-stream",
) -> StreamingResponse:
    """A response that sends `events`, which are made of `replies`; they are stopped when it ends or the client goes.

    Raises:
        EdgeMoEError: what went wrong before the first event.
    """
    first = asyncio.ensure_future(anext(events))
    watch = asyncio.create_task(_close_when_gone(request, replies))
    try:
        await asyncio.wait({first}, timeout=FIRST)
        if first.done():
            first.result()
    except BaseException:
        watch.cancel()
        for reply in replies:
            await reply.aclose()
        raise

    async def body() -> AsyncIterator[bytes]:
        following = first
        try:
            while True:
                await asyncio.wait({following}, timeout=HEARTBEAT)
                if not following.done():
                    yield heartbeat
                    continue
                try:
                    sent = following.result()
                except StopAsyncIteration:
                    return
                except Exception as error:
                    yield error_event(as_request_error(error))
                    return
                yield sent
                following = asyncio.ensure_future(anext(events))
        finally:
            following.cancel()
            watch.cancel()
            for reply in replies:
                await reply.aclose()

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(body(), media_type=media_type, headers=headers)


async def _close_when_gone(request: Request, replies: Sequence[Reply]) -> None:
    await _gone(request)
    for reply in replies:
        await reply.aclose()
