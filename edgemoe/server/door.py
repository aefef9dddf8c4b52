"""Who may call the server, and how much they may send."""

from __future__ import annotations

import asyncio
import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgemoe.server.errors import (
    ForeignHost,
    Gone,
    NotAllowed,
    RequestError,
    TooLarge,
    TooSlow,
    Unavailable,
    WrongEncoding,
)
from edgemoe.server.limits import Limits, weight
from edgemoe.server.protocol import CROWDED, Refuse

LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPEN = ("/health", "/")
"""Paths that need no key."""
OPEN_FOLDER = "/page/"
"""Where the page's own files are, which asks for the key."""


class Door:
    """Middleware that lets in who has the key, or without one, who calls this machine by its own name.

    It reads bodies, as far and for as long as `limits` allow, before anything else looks at a request.
    """

    def __init__(
        self, app: ASGIApp, *, api_key: str | None, hosts: tuple[str, ...], limits: Limits, refuse: Refuse
    ) -> None:
        self._app, self._limits, self._refuse = app, limits, refuse
        self._key = api_key.encode() if api_key else None
        self._hosts = frozenset((*LOOPBACK, *hosts))
        self._held = 0  # bytes that bodies take

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (error := self._wrong(scope, Headers(scope=scope))) is not None:
            await self._refuse(scope["path"], error)(scope, receive, send)
            return
        body = _Body()
        try:
            if (error := await self._read(body, receive)) is not None:
                await self._refuse(scope["path"], error)(scope, receive, send)
                return
            await self._app(scope, body.replayed(receive), send)
        finally:
            self._held -= body.weight

    def _wrong(self, scope: Scope, headers: Headers) -> RequestError | None:
        """What is wrong before the body is there."""
        if scope.get("state", {}).get(CROWDED):
            count = self._limits.connections
            return Unavailable(f"{count} connections are open, and this server takes no more", retry_after=1)
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._limits.largest:
            return self._too_large()
        if (encoding := headers.get("content-encoding", "identity")) != "identity":
            return WrongEncoding(f"Content-Encoding: {encoding!r} cannot be read: send the body as it is")
        return self._stranger(scope, headers)

    def _stranger(self, scope: Scope, headers: Headers) -> RequestError | None:
        path = scope["path"]
        if self._key is None:
            if "host" not in headers and scope["http_version"] == "1.0":  # no browser sends that
                return None
            host = host_of(headers.get("host", ""))
            message = f"this server does not answer to the name {host!r}: call it 127.0.0.1 or localhost, or set a key"
            return None if host in self._hosts else ForeignHost(message)
        if path in OPEN or path.startswith(OPEN_FOLDER) or hmac.compare_digest(_given_key(headers).encode(), self._key):
            return None
        return NotAllowed("the API key is missing or wrong: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'")

    async def _read(self, body: _Body, receive: Receive) -> RequestError | None:
        """Reads all of a body, or says why not."""
        limits, end = self._limits, asyncio.get_running_loop().time() + self._limits.body
        while not body.complete:
            try:
                message = await asyncio.wait_for(receive(), end - asyncio.get_running_loop().time())
            except asyncio.TimeoutError:
                return TooSlow(f"the body took more than {limits.body:g} s: send it faster, or less of it")
            if message["type"] == "http.disconnect":
                return Gone("the client has gone")
            self._held += body.add(message)
            if body.size > limits.largest:
                return self._too_large()
            if body.values > limits.values:
                told = f"the body has more than {limits.values} commas, colons and brackets"
                return TooLarge(f"{told}: send less at a time")
            if self._held > limits.bodies:
                held = f"requests that are under way take {limits.bodies >> 20} MiB"
                return Unavailable(f"{held}, and this server has no more: send it again later", retry_after=1)
        return None

    def _too_large(self) -> RequestError:
        return TooLarge(f"the body is larger than {self._limits.largest >> 20} MiB")


class _Body:
    """A body as far as it has come."""

    def __init__(self) -> None:
        self.size = 0
        self.values = 0
        """At least as many as the JSON has."""
        self.weight = 0
        self.complete = False
        self._parts: list[bytes] = []

    def add(self, message: Message) -> int:
        """Takes a part; returns its weight."""
        part: bytes = message.get("body", b"")
        self._parts.append(part)
        values = sum(map(part.count, (b",", b":", b"[", b"{")))
        more = weight(len(part), values)
        self.size += len(part)
        self.values += values
        self.weight += more
        self.complete = not message.get("more_body", False)
        return more

    def replayed(self, receive: Receive) -> Receive:
        """What gives the body again, once, and then what else comes."""
        parts, self._parts = self._parts, []

        async def replay() -> Message:
            if parts:
                whole = b"".join(parts)
                parts.clear()
                return {"type": "http.request", "body": whole, "more_body": False}
            return await receive()

        return replay


def host_of(header: str) -> str:
    """The name in a Host header, without its port: "[::1]:8080" is "::1"."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def _given_key(headers: Headers) -> str:
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
