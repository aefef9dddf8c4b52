"""What clients may hold of a server, and for how long: bodies, connections, time; and who is not let in."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from edgemoe.server.limits import Limits
from serving import Running, connected, serving, until

LIMITS = Limits(connections=6, headers=1.0, body=1.0, stalled=1.0, linger=1.0, largest=1 << 20, bodies=6 << 20)
JSON = {"content-type": "application/json"}
PATHS = ("/v1/chat/completions", "/v1/messages", "/api/chat")


@pytest.fixture(scope="module")
def strict() -> Iterator[Running]:
    """A server that soon loses its patience."""
    with serving(limits=LIMITS) as server:
        server.service.preload("tinystories-moe")
        yield server


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *lines)
    return "\r\n".join([*lines, "", ""]).encode()


def received(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    found = b""
    while data := connection.recv(65536):
        found += data
    return found


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body_of(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def is_error(path: str, body: Any) -> bool:
    """Whether an error has the form of the path's API."""
    if path.startswith("/api/"):
        return isinstance(body["error"], str)
    if path == "/v1/messages":
        return body["type"] == "error" and bool(body["error"]["message"])
    return set(body["error"]) == {"message", "type", "param", "code"}


def works(server: Running) -> bool:
    return httpx.get(f"{server.url}/health", timeout=30).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_drips_is_given_up(strict: Running, path: str) -> None:
    with connected(strict) as connection:
        connection.sendall(head(path, "Content-Length: 1000"))
        connection.sendall(b"{")
        answer = received(connection)
        assert status(answer) == 408
        assert is_error(path, body_of(answer))
        assert b"the body took more than 1 s" in answer
    assert works(strict)


def test_every_byte_of_a_body_does_not_begin_its_time_again(strict: Running) -> None:
    with connected(strict) as connection:
        connection.sendall(head(PATHS[0], "Content-Length: 1000000"))
        gone, found = threading.Event(), []

        def drip() -> None:
            while not gone.wait(0.1):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            found.append(received(connection))
        except ConnectionResetError:  # what it sent late came to a closed connection
            found.append(b"HTTP/1.1 408 ")
        finally:
            gone.set()
            thread.join()
        assert status(found[0]) == 408


@pytest.mark.parametrize("path", PATHS)
def test_headers_that_drip_are_given_up(strict: Running, path: str) -> None:
    with connected(strict) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Slow:".encode())
        answer = received(connection)
        assert status(answer) == 408
        assert is_error(path, body_of(answer))
    assert works(strict)


def test_connections_that_ask_nothing_are_closed(strict: Running) -> None:
    with connected(strict) as silent:
        assert received(silent) == b""
    with connected(strict) as again:
        again.sendall(head("/health", method="GET"))
        assert status(again.recv(65536)) == 200
        again.sendall(b"GET /hea")
        assert status(received(again)) == 408


def closed_at_once(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("path", PATHS)
def test_connections_have_an_end(strict: Running, path: str) -> None:
    """Those beyond the limit are told so, and the others go on."""
    host, _, port = strict.url.removeprefix("http://").partition(":")
    patient = httpx.get(f"{strict.url}/health")
    assert patient.status_code == 200
    opened = [socket.create_connection((host, int(port)), timeout=30) for _ in range(LIMITS.connections)]
    try:
        answer = httpx.post(f"{strict.url}{path}", json={}, timeout=30)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert is_error(path, answer.json())
        many = [socket.create_connection((host, int(port)), timeout=30) for _ in range(LIMITS.connections + 2)]
        opened += many
        assert closed_at_once(many[-1])
    finally:
        for one in opened:
            one.close()
    until(lambda: httpx.get(f"{strict.url}/health").status_code == 200)


def test_bodies_together_have_an_end(strict: Running) -> None:
    """There is room for one and a half of them."""
    with ThreadPoolExecutor(4) as threads:
        body = b'{"messages": "' + b"x" * ((1 << 20) - 20) + b'"}'
        url = f"{strict.url}/v1/chat/completions"
        sent = [threads.submit(httpx.post, url, content=dripping(body), headers=JSON, timeout=30) for _ in range(4)]
        found = [one.result() for one in sent]
    assert {one.status_code for one in found} == {400, 503}
    assert all("retry-after" in one.headers for one in found if one.status_code == 503)
    assert works(strict)


def dripping(body: bytes) -> Iterator[bytes]:
    """Most of a body at once, and the rest when others have sent theirs."""
    yield body[:-1]
    threading.Event().wait(0.5)
    yield body[-1:]


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_is_too_large(strict: Running, path: str, chunked: bool) -> None:
    body = b'{"messages": "' + b"x" * (5 << 20) + b'"}'
    content: Any = iter([body[i : i + 65536] for i in range(0, len(body), 65536)]) if chunked else body
    answer = httpx.post(f"{strict.url}{path}", content=content, headers=JSON, timeout=30)
    assert answer.status_code == 413
    assert is_error(path, answer.json())
    assert "larger than 1 MiB" in answer.text


def test_what_is_not_read_is_not_kept_for_ever(strict: Running) -> None:
    """Answers pile up until the client reads; one that does not is cut off, and its request ends."""
    with connected(strict) as connection:
        for size in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            connection.setsockopt(socket.SOL_SOCKET, size, 4096)
        request = head("/openapi.json", method="GET")
        with pytest.raises(ConnectionError):
            connection.sendall(request * 100_000)
    until(lambda: strict.service.in_progress == 0)
    assert works(strict)


@pytest.mark.parametrize("path", PATHS)
def test_foreign_names(strict: Running, path: str) -> None:
    answer = httpx.post(f"{strict.url}{path}", json={}, headers={"host": "evil.example"})
    assert answer.status_code == 403
    assert is_error(path, answer.json())
    assert "'evil.example'" in answer.text


def test_who_has_no_key_is_told_how_to_send_it() -> None:
    with serving(api_key="sesame") as server:
        answer = httpx.get(f"{server.url}/v1/models", headers={"host": "evil.example"})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_http_1_0_without_a_name(strict: Running) -> None:
    with connected(strict) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert status(received(connection)) == 200


@pytest.mark.parametrize("path", PATHS)
def test_bodies_that_are_packed(strict: Running, path: str) -> None:
    answer = httpx.post(f"{strict.url}{path}", content=b"x", headers=JSON | {"content-encoding": "gzip"})
    assert answer.status_code == 415
    assert is_error(path, answer.json())
    assert "'gzip'" in answer.text


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\r\n\r\n", b"HELO\r\n\r\n", head("/", "Host: a")])
def test_what_is_no_http(strict: Running, sent: bytes) -> None:
    with connected(strict) as connection:
        connection.sendall(sent)
        answer = received(connection)
    assert status(answer) in (400, 408)
    assert body_of(answer)["error"]["message"]
