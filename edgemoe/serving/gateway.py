"""Forwards requests to replicas. What a lost replica had not begun to answer, another one answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from edgemoe.server.app import error_event, error_response
from edgemoe.server.errors import RequestError, TooLarge, Unavailable, as_request_error
from edgemoe.server.limits import DEFAULT
from edgemoe.server.streams import COMMENT, PING
from edgemoe.serving.exchange import Asked, Begun, Part
from edgemoe.serving.prefix import Beginnings, beginnings

_TRIES = 3
"""Replicas that one request may be sent to: one that ends its replica must not end them all."""
_LOST = "the replica that answered was lost: ask again"


class Lost(Exception):
    """A replica has gone before its answer was complete."""


Ask = Callable[[Beginnings, Asked], AsyncGenerator[Part, None]]
"""Sends a request to a replica. Raises `Lost`, and RequestError for what no replica takes."""


class Gateway:
    """Answers requests with what replicas say."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def respond(self, request: Request) -> Response:
        """The answer to `request`, whatever happens."""
        path = request.url.path.removeprefix(request.scope.get("root_path", ""))
        try:
            asked = await _read(request, path)
            return await _Exchange(self._ask, asked).response()
        except Exception as error:
            return error_response(path, as_request_error(error))


async def _read(request: Request, path: str) -> Asked:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > DEFAULT.largest:
            raise TooLarge(f"the body is larger than {DEFAULT.largest >> 20} MiB")
    headers = tuple((bytes(name), bytes(value)) for name, value in request.headers.raw)
    return Asked(request.method, path, request.scope["query_string"], headers, bytes(body))


class _Exchange:
    """One request, and the replicas that it was sent to."""

    def __init__(self, ask: Ask, asked: Asked) -> None:
        self._ask, self._asked = ask, asked
        self._prompt = beginnings(asked.body)
        self._tries = 0

    async def response(self) -> Response:
        """Complete, or one that streams."""
        while True:
            parts, begun = await self._begin()
            if begun.streams:
                return _with_headers(StreamingResponse(self._streamed(parts, begun)), begun)
            with suppress(Lost):
                return _with_headers(
                    Response(b"".join([part async for part in parts if isinstance(part, bytes)])), begun
                )

    async def _begin(self) -> tuple[AsyncGenerator[Part, None], Begun]:
        """Of the first replica that begins to answer."""
        while self._tries < _TRIES:
            self._tries += 1
            parts = self._ask(self._prompt, self._asked)
            with suppress(Lost):
                begun = await anext(parts)
                assert isinstance(begun, Begun)
                return parts, begun
        raise Unavailable(f"{_TRIES} replicas were lost while they answered this: ask again later")

    async def _streamed(self, parts: AsyncGenerator[Part, None], begun: Begun) -> AsyncIterator[bytes]:
        """Signs of life are no part of an answer: after them, another replica can still answer."""
        answered = False
        while True:
            try:
                async with aclosing(parts):
                    async for part in parts:
                        assert isinstance(part, bytes)
                        answered = answered or part not in (COMMENT, PING)
                        yield part
                return
            except Lost:
                if answered:
                    yield error_event(self._asked.path, Unavailable(_LOST))
                    return
            try:
                parts, again = await self._begin()
            except RequestError as error:
                yield error_event(self._asked.path, error)
                return
            if again.status != begun.status:
                yield error_event(self._asked.path, Unavailable(_LOST))
                return


def _with_headers(response: Response, begun: Begun) -> Response:
    """A body that is complete has the same length as before."""
    response.status_code = begun.status
    response.raw_headers = [*begun.headers]
    return response
