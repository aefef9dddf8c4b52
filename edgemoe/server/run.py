"""Runs the server until it is told to stop."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from collections.abc import Callable

import uvicorn

from edgemoe.errors import EdgeMoEError
from edgemoe.server.app import create_app, error_response
from edgemoe.server.limits import DEFAULT
from edgemoe.server.protocol import configuration
from edgemoe.server.service import Service

_LINGER = 10  # seconds that answers under way get after Ctrl-C
SWITCH_INTERVAL = 0.001
"""Seconds: tokens of several answers pass between threads all the time."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound; port 0 takes a free one.

    Raises:
        EdgeMoEError: the port is in use or not allowed, or the machine has no such address.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise EdgeMoEError(f"--host {host} is no address of this machine: {error.strerror or error}") from error
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise EdgeMoEError(_why(error, host, port)) from error
    return bound


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: choose another with --port, or 0 for a free one"
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that this user does not have: choose one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host} is no address of this machine"
    return f"{host}:{port} cannot be opened: {error.strerror}"


class _Server(uvicorn.Server):
    """Tells when it takes requests, and Ctrl-C."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()


def serve(
    service: Service,
    bound: socket.socket,
    *,
    api_key: str | None,
    host: str,
    verbose: bool,
    on_start: Callable[[], None] = lambda: None,
) -> None:
    """Answers requests on `bound` until Ctrl-C or SIGTERM; answers under way get a little time to end."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    app = create_app(service, api_key=api_key, hosts=(host,))
    config = configuration(
        app,
        DEFAULT,
        error_response,
        log_level="info" if verbose else "warning",
        access_log=verbose,
        timeout_graceful_shutdown=_LINGER,
    )
    try:
        _Server(config, on_start).run(sockets=[bound])
    except KeyboardInterrupt:  # raised again by uvicorn when everything is closed
        return
