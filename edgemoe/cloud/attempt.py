"""One request over one connection: from its first byte to the last piece of the answer."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from edgemoe.cloud.deadlines import Deadlines
from edgemoe.cloud.endpoint import Endpoint, Key
from edgemoe.cloud.events import EventError, EventParser
from edgemoe.cloud.protocol import Answer, Message, Piece, error_text, is_temporary, quoted
from edgemoe.cloud.retries import retry_after
from edgemoe.errors import CloudError

T = TypeVar("T")

_LARGEST_ERROR = 1 << 16
_FOR_ERROR = 5.0
_FOR_END = 0.2
"""Seconds for the rest of an answer with an error, and for the end of a body after the last event."""


class Attempt:
    """Runs on the network's event loop; `close` must follow, whatever happened."""

    def __init__(
        self, endpoint: Endpoint, key: Key | None, messages: Sequence[Message], sent: threading.Event | None = None
    ) -> None:
        """`sent` is set once the request is with the server, and cleared if it refuses it."""
        self.started = False
        """Text has come."""
        self.retry_after: float | None = None
        """Seconds that the server asked to be left alone for."""
        self.refused = False
        """It was answered, with an error."""
        self._endpoint = endpoint
        self._key = key
        self._deadlines = Deadlines(endpoint)
        self._parser = EventParser()
        self._hide = key.removed_from if key is not None else str
        self._answer = Answer(messages, self._hide)
        self._sent = sent or threading.Event()
        self._pieces: list[Piece] = []
        self._ended = False
        self._problem: CloudError | None = None
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def open(self, client: httpx.AsyncClient, body: bytes) -> None:
        """Sends the request and reads the head of the answer."""
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity"}
        try:
            request = client.build_request("POST", self._endpoint.url, content=body, headers=headers)
        except (httpx.InvalidURL, ValueError) as error:
            raise self._error(f"has no usable base_url: {quoted(str(error))}") from None
        request.extensions["trace"] = self._follow
        self._response = await self._wait(client.send(request, stream=True, auth=self._key))
        self._chunks = self._response.aiter_raw()
        if self._response.status_code != HTTPStatus.OK:
            raise await self._refused(self._response)
        kind = self._response.headers.get("content-type", "")
        encoding = self._response.headers.get("content-encoding", "identity")
        if kind.partition(";")[0].strip().lower() != "text/event-stream" or encoding.lower() != "identity":
            self._sent.clear()
            begin = quoted(await self._beginning())
            kind = quoted(self._hide(kind if encoding == "identity" else f"{kind}, {encoding}")) or "nothing"
            raise self._error(f"answered with {kind} where text/event-stream should be: {begin}")

    async def _follow(self, event: str, _: dict[str, object]) -> None:
        """Told by httpcore how far it is."""
        if event.endswith("send_request_body.complete"):
            self._sent.set()

    async def next(self) -> Piece | None:
        """The next piece; None after the last one."""
        while not self._pieces and not self._ended:
            await self._read()
        if self._pieces:
            piece = self._pieces.pop(0)
            self.started = self.started or bool(piece.text)
            return piece
        if self._problem is not None:
            self._problem.started = self.started
            raise self._problem
        if self._response is None:
            return None
        last = self._answer.last_piece()
        await self._finish()
        return last

    async def close(self) -> None:
        """Closes the connection, if it has not been given back."""
        response, self._response = self._response, None
        if response is not None:
            await response.aclose()

    async def _read(self) -> None:
        """What came before a problem is passed on first. After the end of the text, only its usage would be missing."""
        try:
            await self._read_events()
        except EventError as error:
            line = quoted(self._hide(error.line.decode("utf-8", "replace")), 60)
            problem = self._error(f"sent what is no event stream: {error}{': ' if line else ''}{line}")
        except CloudError as error:
            problem = self._error(str(error), temporary=error.temporary and not self._answer.characters)
        else:
            return
        self._ended = True
        self._problem = None if self._answer.finished else problem

    async def _read_events(self) -> None:
        data = await self._chunk()
        for event in self._parser.feed(data or b""):
            text = self._answer.add(event)
            if text or self._answer.thought:
                self._pieces.append(Piece(text, thought=self._answer.thought))
            self._deadlines.came(self._answer.characters, finished=self._answer.finished)
            if self._answer.ended:
                break
        self._ended = data is None or self._answer.ended
        if self._ended and not self._answer.finished:
            raise CloudError("ended its answer in the middle", temporary=True)

    async def _chunk(self) -> bytes | None:
        assert self._chunks is not None
        try:
            return await self._wait(self._chunks.__anext__())
        except StopAsyncIteration:
            return None

    async def _wait(self, awaitable: Awaitable[T]) -> T:
        """Within the deadline. What is raised does not lead to the request, which has the key."""
        seconds, what = self._deadlines.left()
        begin = time.monotonic()
        try:
            return await asyncio.wait_for(awaitable, max(seconds, 0.0))
        except asyncio.TimeoutError:
            problem = self._error(f"is too slow: {what}")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            problem = self._broken(error)
        finally:
            self._deadlines.waited(time.monotonic() - begin)
        raise problem

    async def _finish(self) -> None:
        """Reads the end of the body, so that the connection can be used again, if it is there."""
        try:
            while await asyncio.wait_for(self._chunk(), _FOR_END) is not None:
                pass
        except (CloudError, asyncio.TimeoutError):
            pass
        await self.close()

    async def _refused(self, response: httpx.Response) -> CloudError:
        self.refused, status = True, response.status_code
        self._sent.clear()
        name = f"HTTP {status} {quoted(self._hide(response.reason_phrase))}".rstrip()
        if response.is_redirect:
            target = quoted(_target(self._hide(response.headers.get("location", ""))))
            return self._error(f"leads to {target} ({name}), which is not followed: correct its base_url")
        self.retry_after = retry_after(response.headers.get("retry-after"))
        text = error_text(await self._beginning())
        return self._error(f"answered with {name}{': ' if text else ''}{text}", temporary=is_temporary(status))

    async def _beginning(self) -> str:
        data = b""
        try:
            while len(data) < _LARGEST_ERROR:
                chunk = await asyncio.wait_for(self._chunk(), _FOR_ERROR)
                if chunk is None:
                    break
                data += chunk
        except (CloudError, asyncio.TimeoutError):
            pass
        return self._hide(data.decode("utf-8", "replace"))

    def _broken(self, error: Exception) -> CloudError:
        if self._response is None:
            self._sent.clear()
        if isinstance(error, httpx.TimeoutException):  # of a connection: the others are ours
            return self._error(f"gave no connection within {self._endpoint.connect_timeout:g} s")
        if certificate := _certificate_error(error):
            return self._error(f"has a certificate that is not trusted: {quoted(certificate)}")
        what = quoted(self._hide(str(error))) or type(error).__name__
        how = "cannot be reached" if isinstance(error, (httpx.ConnectError, httpx.ProxyError)) else "cut the connection"
        return self._error(f"{how}: {what}", temporary=True)

    def _error(self, message: str, *, temporary: bool = False) -> CloudError:
        message = self._hide(message)
        name = f"the endpoint {self._endpoint.name!r} "
        return CloudError(name + message.removeprefix(name), temporary=temporary)


def _target(location: str) -> str:
    """Where a redirect leads, without the path and what a URL may have of secrets."""
    try:
        where = urlsplit(location)
    except ValueError:
        return location.partition("?")[0]
    return f"{where.scheme}://{where.netloc.rpartition('@')[2]}" if where.netloc else where.path


def _certificate_error(error: BaseException) -> str | None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return str(cause.verify_message)
        cause = cause.__cause__ or cause.__context__
    return str(error) if "CERTIFICATE_VERIFY_FAILED" in str(error) else None
