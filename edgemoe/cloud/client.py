"""The client of a cloud model, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from edgemoe.cloud.breaker import Breaker
from edgemoe.cloud.endpoint import Endpoint
from edgemoe.cloud.network import Network, network
from edgemoe.cloud.protocol import Message, Piece, request_body
from edgemoe.errors import CloudError

if TYPE_CHECKING:
    import httpx

    from edgemoe.cloud.exchange import Exchange

_FOR_CLOSING = 5.0


class Cloud:
    """Asks one endpoint. Any thread and any event loop may use it, also at the same time.

    Proxies and certificates are those of the environment (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR).
    Clients of the same endpoint may share a `breaker`.
    """

    def __init__(self, endpoint: Endpoint, breaker: Breaker | None = None) -> None:
        self.endpoint = endpoint
        self._breaker = breaker or Breaker()
        self._connections: tuple[Network, httpx.AsyncClient] | None = None

    def __repr__(self) -> str:
        return f"Cloud({self.endpoint.name!r})"

    def stream(
        self,
        messages: Sequence[Message],
        *,
        cancel: threading.Event | None = None,
        sent: threading.Event | None = None,
        **sampling: Any,
    ) -> Generator[Piece, None, None]:
        """Yields the answer to `messages` as it comes; the last piece has the reason it ended, and its tokens.

        Setting `cancel`, closing the iterator and Ctrl-C close the connection at once. `sampling` may have any field
        of the protocol, such as temperature or max_tokens. `sent` is set once the server has the request, and so may
        ask money for it, and cleared if it refuses it.

        Raises:
            CloudError: when the endpoint cannot be asked, or stops answering; `started` says whether text had come.
            Cancelled: once `cancel` is set.
        """
        lines, exchange = network(), self._exchange(messages, cancel, sampling, sent)

        def pieces() -> Generator[Piece, None, None]:
            try:
                while (piece := lines.submit(exchange.next()).result()) is not None:
                    yield piece
            finally:
                lines.submit(exchange.close()).result(_FOR_CLOSING)

        return pieces()

    def astream(
        self, messages: Sequence[Message], *, cancel: threading.Event | None = None, **sampling: Any
    ) -> AsyncIterator[Piece]:
        """As `stream`, for asyncio: cancelling the task, too, closes the connection at once."""
        lines, exchange = network(), self._exchange(messages, cancel, sampling)

        async def pieces() -> AsyncIterator[Piece]:
            try:
                while (piece := await asyncio.wrap_future(lines.submit(exchange.next()))) is not None:
                    yield piece
            finally:
                await asyncio.shield(asyncio.wrap_future(lines.submit(exchange.close())))

        return pieces()

    def unavailable(self) -> str | None:
        """Why the endpoint cannot be asked now: it has no key, or has failed again and again. None when it can."""
        try:
            self.endpoint.key()
        except CloudError as error:
            return str(error)
        reason = self._breaker.refuses()
        return f"the endpoint {self.endpoint.name!r} cannot be asked: {reason}" if reason else None

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Money for one answer, by the endpoint's prices."""
        return self.endpoint.cost(prompt_tokens, completion_tokens)

    def close(self) -> None:
        """Closes connections that were kept for the next request."""
        if self._connections is not None:
            (lines, client), self._connections = self._connections, None
            with suppress(TimeoutError):
                lines.submit(client.aclose()).result(_FOR_CLOSING)

    def _exchange(
        self,
        messages: Sequence[Message],
        cancel: threading.Event | None,
        sampling: dict[str, Any],
        sent: threading.Event | None = None,
    ) -> Exchange:
        from edgemoe.cloud.exchange import Exchange, Request

        body = request_body(self.endpoint.model, messages, sampling)
        return Exchange(Request(self.endpoint, messages, body), self._client, self._breaker, cancel, sent)

    def _client(self) -> httpx.AsyncClient:
        """With connections on this process's event loop, which runs this."""
        if self._connections is None or self._connections[0] is not network():
            self._connections = (network(), _client(self.endpoint))
        return self._connections[1]


def _client(endpoint: Endpoint) -> httpx.AsyncClient:
    """Verifies certificates, follows no redirects, keeps no cookies."""
    from http.cookiejar import CookieJar, DefaultCookiePolicy

    import httpx

    try:
        return httpx.AsyncClient(
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
            headers={"User-Agent": "edgemoe"},
            timeout=httpx.Timeout(None, connect=endpoint.connect_timeout, pool=endpoint.connect_timeout),
            trust_env=not endpoint.is_this_machine,
            verify=httpx.create_ssl_context(),
        )
    except (ImportError, OSError, ValueError) as error:  # of proxies and certificates that the environment names
        raise CloudError(
            f"the endpoint {endpoint.name!r} cannot be asked with this environment's proxies and certificates: {error}"
        ) from None
