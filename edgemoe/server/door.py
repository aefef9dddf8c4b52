"""Who may call the server, and how much they may send."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgemoe.server.errors import NotAllowed, RequestError, TooLarge

LARGEST_BODY = 32 << 20
"""Bytes: more text than any context holds."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPEN = ("/health", "/")
"""Paths that need no key."""
OPEN_FOLDER = "/page/"
"""Where the page's own files are, which asks for the key."""


class Door:
    """Middleware that lets in who has the key, or without one, who calls this machine by its own name."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        api_key: str | None,
        hosts: tuple[str, ...],
        refuse: Callable[[str, RequestError], Response],
    ) -> None:
        self._app, self._refuse = app, refuse
        self._key = api_key.encode() if api_key else None
        self._hosts = frozenset((*LOOPBACK, *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        error = self._wrong(scope["path"], Headers(scope=scope))
        if error is not None:
            await self._refuse(scope["path"], error)(scope, receive, send)
            return
        await self._limited(scope, receive, send)

    def _wrong(self, path: str, headers: Headers) -> RequestError | None:
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > LARGEST_BODY:
            return _too_large()
        if self._key is None:
            host = host_of(headers.get("host", ""))
            return None if host in self._hosts else NotAllowed(f"this server does not answer to the name {host!r}")
        if path in OPEN or path.startswith(OPEN_FOLDER) or hmac.compare_digest(_given_key(headers).encode(), self._key):
            return None
        return NotAllowed("the API key is missing or wrong: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'")

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Bodies without a length are counted as they come."""
        came = 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > LARGEST_BODY:
                raise HTTPException(TooLarge.status, str(_too_large()))
            return message

        await self._app(scope, counted, send)


def host_of(header: str) -> str:
    """The name in a Host header, without its port: "[::1]:8080" is "::1"."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def _given_key(headers: Headers) -> str:
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _too_large() -> RequestError:
    return TooLarge(f"the body is larger than {LARGEST_BODY >> 20} MiB")
