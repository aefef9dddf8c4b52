"""Connections that nobody can hold for nothing: headers that drip, unwanted bodies, clients that do not read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgemoe.server.errors import RequestError, TooSlow
from edgemoe.server.limits import Limits

CROWDED = "crowded"
"""In the state of requests on connections beyond the limit."""
Refuse = Callable[[str, RequestError], Response]
"""The answer to a path that an error makes."""


def configuration(app: Any, limits: Limits, refuse: Refuse, **more: Any) -> uvicorn.Config:
    """For uvicorn to serve `app` within `limits`; those of bodies are the application's."""

    def connection(*args: Any, **kwargs: Any) -> _Connection:
        return _Connection(limits, refuse, *args, **kwargs)

    # uvicorn's annotation wants a class, but it only calls what it is given.
    return uvicorn.Config(app, http=connection, ws="none", server_header=False, **more)  # type: ignore[arg-type]


class _Connection(H11Protocol):
    """uvicorn's, with deadlines for what uvicorn waits for without end."""

    def __init__(self, limits: Limits, refuse: Refuse, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits, self._refuse = limits, refuse
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._drops = False  # the rest of a body whose request is answered

    # As the parent's own signature, which narrows asyncio's in the same way.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes it. Those beyond the limit are told so when they ask, and closed at once when they are far too many."""
        super().connection_made(transport)
        open_now = len(self.connections)
        if open_now > 2 * self._limits.connections:
            transport.abort()
        elif open_now > self._limits.connections:
            self.app_state = {**self.app_state, CROWDED: True}
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the deadlines."""
        self._set_deadline(None)
        self._end_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A part of a request."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._set_deadline(None)
        elif self._drops and self.conn.their_state is not h11.SEND_BODY:
            self._drops = False
            self._wait_for_headers()
        elif self._deadline is None:
            self._wait_for_headers()

    def on_response_complete(self) -> None:
        """The rest of a body that nobody wants is dropped, so that the client gets to read why."""
        super().on_response_complete()
        if self.cycle.response_complete and self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._drops = True
            self._set_deadline(self._limits.linger, self.transport.close)

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self._limits.stalled, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._end_stall()

    def send_400_response(self, msg: str) -> None:
        """For what is no HTTP."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
        else:
            self._answer(RequestError("this is no request of HTTP/1.1, or its headers are too long"))

    def _wait_for_headers(self) -> None:
        self._set_deadline(self._limits.headers, self._too_slow)

    def _too_slow(self) -> None:
        if self.conn.trailing_data[0]:
            self._answer(TooSlow(f"the headers took more than {self._limits.headers:g} s: send them at once"))
        else:  # nothing was asked
            self.transport.close()

    def _answer(self, error: RequestError) -> None:
        """Tells what is wrong with a request whose headers are not complete, and closes the connection."""
        words = self.conn.trailing_data[0][:1024].split(b" ", 2)
        response = self._refuse(words[1].decode("latin-1") if len(words) > 2 else "", error)
        head = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\nconnection: close\r\n".encode()
        head += b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
        self.transport.write(head + b"\r\n" + bytes(response.body))
        self.transport.close()

    def _set_deadline(self, seconds: float | None, then: Callable[[], Any] = lambda: None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, then) if seconds is not None else None

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
