"""A request to an ASGI application as a plain value, and its answer as plain parts: what goes between processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.types import ASGIApp, Message

Headers = tuple[tuple[bytes, bytes], ...]
_AHEAD = 64
"""Parts that are made before somebody takes them."""


@dataclass(frozen=True)
class Asked:
    """A request over HTTP, its body included."""

    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytes


@dataclass(frozen=True)
class Begun:
    """The beginning of an answer."""

    status: int
    headers: Headers

    @property
    def streams(self) -> bool:
        """Whether its parts are for the client one by one, as they come."""
        kind = next((value for name, value in self.headers if name.lower() == b"content-type"), b"")
        return kind.startswith((b"text/event-stream", b"application/x-ndjson"))


Part = Begun | bytes


async def answer(app: ASGIApp, asked: Asked) -> AsyncIterator[Part]:
    """What `app` answers: one `Begun`, then bytes. Closing this tells `app` that the client has gone."""
    parts: asyncio.Queue[Part | None] = asyncio.Queue(_AHEAD)
    gone = asyncio.Event()
    taken = False

    async def receive() -> Message:
        nonlocal taken
        if not taken:
            taken = True
            return {"type": "http.request", "body": asked.body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            await parts.put(Begun(message["status"], tuple(message["headers"])))
        elif message.get("body"):
            await parts.put(message["body"])

    async def run() -> None:
        try:
            await app(_scope(asked), receive, send)
        finally:
            if not gone.is_set():
                await parts.put(None)

    running = asyncio.create_task(run())
    try:
        while (part := await parts.get()) is not None:
            yield part
        await running
    finally:
        gone.set()
        if not running.done():
            running.cancel()
            await asyncio.wait({running})


def _scope(asked: Asked) -> Message:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": asked.method,
        "scheme": "http",
        "path": asked.path,
        "raw_path": asked.path.encode(),
        "query_string": asked.query,
        "root_path": "",
        "headers": list(asked.headers),
        "client": None,
        "server": None,
    }
