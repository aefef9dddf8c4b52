"""How many requests came to which endpoint, and what status they got."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgemoe.server.errors import Gone, as_request_error

OTHER = "other"
"""The endpoint of paths that there are not: a counter for each of them would have no end."""
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

Key = tuple[str, str, int]
"""Method, path of the endpoint, status."""


class Traffic:
    """Counts of requests. It belongs to one event loop, and so needs no lock."""

    def __init__(self) -> None:
        self._counts: Counter[Key] = Counter()

    @property
    def counts(self) -> Mapping[Key, int]:
        """Since the server began; a request counts from when its status is known."""
        return dict(self._counts)

    def add(self, scope: Scope, status: int) -> None:
        """Counts a request."""
        path = getattr(scope.get("route"), "path", OTHER)
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        self._counts[method, path, status] += 1


class Counted:
    """Middleware that counts into `traffic`."""

    def __init__(self, app: ASGIApp, *, traffic: Traffic) -> None:
        self._app, self._traffic = app, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        counted = False

        async def counting(message: Message) -> None:
            nonlocal counted
            if message["type"] == "http.response.start" and not counted:
                counted = True
                self._traffic.add(scope, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counting)
        except BaseException as error:
            if not counted:  # the answer is made further outside
                status = as_request_error(error).status if isinstance(error, Exception) else Gone.status
                self._traffic.add(scope, status)
            raise
