"""Servers on loopback for the tests of the cloud client: a real one, and one that does what no server should."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgemoe import CloudError
from edgemoe.cloud import Cloud, Endpoint

LONG = 60.0
"""Seconds that nothing of these tests takes."""

EVENT_STREAM = "Content-Type: text/event-stream\r\n"


def event(text: str | None = None, **chunk: object) -> str:
    """An event of a stream, with some text or with anything else."""
    value = chunk or {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return f"data: {json.dumps(value)}\n\n"


END = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
DONE = "data: [DONE]\n\n"


@dataclass
class Visit:
    """A connection of a client; `head` and `body` are of its request."""

    connection: socket.socket
    head: str = ""
    body: bytes = b""
    began: float = 0.0
    gone: threading.Event = field(default_factory=threading.Event)

    def send(self, data: str | bytes) -> None:
        self.connection.sendall(data.encode() if isinstance(data, str) else data)

    def answer(self, body: str, status: str = "200 OK", headers: str = EVENT_STREAM) -> None:
        """A head, and what there is of a body; the connection's end is that of the body."""
        self.send(f"HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n{body}")

    def hang(self) -> None:
        """Until the client goes away."""
        self.connection.settimeout(LONG)
        while self.connection.recv(4096):
            pass

    def read_request(self) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := self.connection.recv(65536)):
                return
            data += more
        head, _, self.body = data.partition(b"\r\n\r\n")
        self.head = head.decode()
        lengths = [line.split(":")[1] for line in self.head.split("\r\n") if line.lower().startswith("content-length")]
        while lengths and len(self.body) < int(lengths[0]):
            self.body += self.connection.recv(65536)


Behaviour = Callable[[Visit], None]


class Server:
    """Does the first behaviour for the first connection and so on, and the last one for all that follow."""

    def __init__(self, *behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.visits: list[Visit] = []
        self._behaviours = behaviours
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(LONG)

    @property
    def requests(self) -> list[Visit]:
        """Visits that brought a request."""
        return [visit for visit in self.visits if visit.head]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            visit = Visit(connection, began=time.monotonic())
            behaviour = self._behaviours[min(len(self.visits), len(self._behaviours) - 1)]
            self.visits.append(visit)
            threading.Thread(target=self._serve, args=(visit, behaviour), daemon=True).start()

    def _serve(self, visit: Visit, behaviour: Behaviour) -> None:
        visit.connection.settimeout(LONG)
        with contextlib.suppress(OSError):
            if self._tls is not None:
                visit.connection = self._tls.wrap_socket(visit.connection, server_side=True)
            visit.read_request()
            behaviour(visit)
        visit.connection.close()
        visit.gone.set()


def says(*parts: str) -> Behaviour:
    """A whole answer with these events."""
    return lambda visit: visit.answer("".join(parts))


def fine(visit: Visit) -> None:
    """An answer as it should be."""
    usage = event(choices=[], usage={"prompt_tokens": 1000, "completion_tokens": 2000})
    visit.answer(event("Hello") + event(" you.") + END + usage + DONE)


QUESTION = [{"role": "user", "content": "Hello?"}]


def cloud_of(server: Server | int, **options: Any) -> Cloud:
    port = server if isinstance(server, int) else server.port
    return Cloud(Endpoint("odd", f"http://127.0.0.1:{port}/v1", "model", **options))


def failure(cloud: Cloud) -> tuple[str, CloudError]:
    """The text that came, and how it ended."""
    texts = []
    with pytest.raises(CloudError) as caught:
        texts += (piece.text for piece in cloud.stream(QUESTION))
    return "".join(texts), caught.value


def hangs(visit: Visit) -> None:
    visit.hang()


def hangs_after_head(visit: Visit) -> None:
    visit.answer("")
    visit.hang()


def hangs_up(visit: Visit) -> None:
    """No answer."""


def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the machine's proxies out of the environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def free_port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def llama_server(model: Path, log: Path, key: str) -> Iterator[str]:
    """llama-cpp-python's server with `model`; yields its base URL."""
    port = free_port()
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "512", "--n_threads", "1", "--api_key", key]
    arguments += ["--interrupt_requests", "false"]  # else a second request ends the first one's answer
    with log.open("wb") as output:
        command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model), *arguments]
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            _wait_for(process, f"http://127.0.0.1:{port}/v1/models", key, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(LONG)


def _wait_for(process: subprocess.Popen[bytes], url: str, key: str, log: Path) -> None:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(600):
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            with opener.open(request, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the server does not start:\n{log.read_text()[-2000:]}")
