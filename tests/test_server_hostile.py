"""What no client sends: the server answers it clearly, or not at all, and goes on."""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import httpx
import pytest

from edgemoe.config import LocalModel
from edgemoe.default_model import default_model_path
from serving import MODEL, PROMPT, Running, connected, said, serving, until
from test_server_cli import started

JSON = {"content-type": "application/json"}
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/api/chat", "/api/generate")
BUDGET = 200  # MiB


def chat(**more: Any) -> bytes:
    """A body as text, in which numbers may be what JSON has no words for."""
    return json.dumps({"messages": said("x"), "max_tokens": 2} | more).encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (chat(temperature=float("nan")), "temperature: Input should be a finite number, not nan"),
        (chat(temperature=float("inf")), "temperature: Input should be a finite number, not inf"),
        (chat(top_p=-0.0001), "top_p: Input should be greater than or equal to 0, not -0.0001"),
        (chat(max_tokens=-(2**63)), "max_tokens: Input should be greater than or equal to 1"),
        (chat(seed=2**63), "seed: Input should be less than"),
        (chat(max_tokens=1e400), "max_tokens"),
        (chat(max_tokens=True), "max_tokens: Input should be a valid integer, not True"),
        (chat(logit_bias={"٣": 1}), "logit_bias"),
        (chat(logit_bias={"1": float("nan")}), "logit_bias.1: Input should be a finite number"),
        (chat(stop=["x"] * 17), "stop"),
        (chat(model="é" * 3000), "there is no model 'é"),
        (chat(model="\x00"), "there is no model '\\x00'"),
        (b"\xff\xfe{", "no UTF-8"),
        (b'{"messages": ' + b"[" * 30000 + b"]" * 30000 + b"}", "nested too deeply"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "max_tokens": 0}', "max_tokens"),
        (b"", "Field required"),
        (b"null", "Input should be a valid dictionary"),
        (b"3", "Input should be a valid dictionary"),
    ],
)
def test_bodies_that_mean_harm(server: Running, body: bytes, message: str) -> None:
    answer = httpx.post(f"{server.url}/v1/chat/completions", content=body, headers=JSON, timeout=60)
    assert answer.status_code in (400, 404)
    assert message in answer.json()["error"]["message"]
    assert len(answer.content) < 10_000


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_what_is_not_sent_as_json(server: Running, path: str, kind: str) -> None:
    """Pages of other hosts may send these without asking first."""
    answer = httpx.post(f"{server.url}{path}", content=chat(), headers={"content-type": kind} if kind else {})
    assert answer.status_code == 400
    assert "Content-Type: application/json" in answer.text


@pytest.mark.parametrize("path", [*PATHS, "/v1/models", "/api/tags", "/health", "/metrics", "/nothing"])
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "BREW"])
def test_methods_that_there_are_not(server: Running, path: str, method: str) -> None:
    answer = httpx.request(method, f"{server.url}{path}")
    assert answer.status_code in (404, 405) or method == "HEAD"
    assert answer.status_code < 500
    assert "access-control-allow-origin" not in answer.headers
    if answer.status_code == 405:
        assert answer.headers["allow"]
    if method == "HEAD":
        assert answer.content == b""


@pytest.mark.parametrize("path", PATHS)
def test_connections_that_break_off_while_an_answer_streams(server: Running, path: str) -> None:
    chats = path.endswith(("chat/completions", "messages", "api/chat"))
    body: dict[str, Any] = {"model": MODEL, "stream": True}
    body |= {"messages": said(PROMPT)} if chats else {"prompt": PROMPT}
    body |= {} if path.startswith("/api/") else {"max_tokens": 400}
    sent = json.dumps(body).encode()
    for wanted in (1, 200, 2000):
        with connected(server) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
            came = b""
            while len(came) < max(wanted, 12) and (data := connection.recv(wanted)):
                came += data
            assert came.startswith(b"HTTP/1.1 200"), came
            connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
    until(lambda: server.service.in_progress == 0)
    until(lambda: server.engine().active == server.engine().waiting == 0)


def test_a_hundred_at_once() -> None:
    """All get an answer, or are told to come back."""
    with serving(parallel=4, queue=16) as server, ThreadPoolExecutor(100) as threads:

        def ask(number: int) -> httpx.Response:
            path = PATHS[0] if number % 2 else "/health"
            if path == "/health":
                return httpx.get(f"{server.url}{path}", timeout=60)
            body = {"messages": said(f"{PROMPT} {number}"), "max_tokens": 8}
            return httpx.post(f"{server.url}{path}", json=body, timeout=60)

        counts = Counter(answer.status_code for answer in threads.map(ask, range(100)))
        assert set(counts) <= {200, 429}
        assert counts[200] >= 50 + 20
        assert server.service.in_progress == 0


def test_a_file_that_is_deleted_while_it_is_served(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(default_model_path().read_bytes())
    with serving(models={MODEL: LocalModel(MODEL, path, threads=1)}) as server:
        body = {"messages": said(PROMPT), "max_tokens": 4, "temperature": 0}
        first = httpx.post(f"{server.url}{PATHS[0]}", json=body, timeout=60)
        path.unlink()
        again = httpx.post(f"{server.url}{PATHS[0]}", json=body, timeout=60)  # its file is open
        assert first.json()["choices"] == again.json()["choices"]
        for read in ("/api/tags", "/api/ps", "/health", "/v1/models", "/metrics", "/engine"):
            answer = httpx.get(f"{server.url}{read}", timeout=60)
            assert answer.status_code in (200, 503), answer.text
        httpx.post(f"{server.url}/api/generate", json={"model": MODEL, "keep_alive": 0}, timeout=60)
        until(lambda: not server.service.loaded)
        gone = httpx.post(f"{server.url}{PATHS[0]}", json=body, timeout=60)
        assert gone.status_code == 503
        assert str(path) in gone.json()["error"]["message"]
        assert httpx.get(f"{server.url}/health").status_code == 200


def test_bodies_stay_inside_the_budget() -> None:
    """Large ones and ones of many parts, eight at a time."""
    user = b'{"role":"user","content":"x"}'
    bodies = [
        b'{"messages":[{"role":"user","content":"' + b"a" * (4_000_000) + b'"}]}',
        b'{"messages":[' + (user + b",") * 4000 + user + b"]}",
        b'{"messages":[{"role":"user","content":[' + b'{"type":"text","text":"x"},' * 12000 + b'{"type":"x"}]}]}',
        b'{"messages":[' + user + b'],"metadata":{"a":[' + b'{"a":0},' * 20000 + b"0]}}",
    ]
    with started("--memory", f"{BUDGET}MiB") as (process, url), ThreadPoolExecutor(8) as threads:
        for body in bodies:
            sent = [
                threads.submit(httpx.post, f"{url}{PATHS[0]}", content=body, headers=JSON, timeout=60) for _ in range(8)
            ]
            assert {one.result().status_code for one in sent} <= {200, 400, 503}
        [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        assert int(peak) >> 10 <= BUDGET


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "maxLength": 10**5},
        {"type": "array", "items": {"type": "integer"}, "maxItems": 10**5},
        {"type": "array", "items": {"type": "integer"}, "minItems": 10**6},
        {"type": "string", "pattern": "^" + "(" * 20000 + "a" + ")" * 20000 + "$"},
        {"anyOf": [{"type": "string", "maxLength": 900}] * 300},
    ],
)
def test_schemas_whose_grammar_would_end_the_process(brave: str, schema: Any) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = httpx.post(f"{brave}{PATHS[0]}", content=chat(response_format=form), headers=JSON, timeout=60)
    assert answer.status_code == 400
    assert "schema" in answer.json()["error"]["message"]
    ollama = httpx.post(f"{brave}/api/chat", json={"model": MODEL, "messages": said("x"), "format": schema}, timeout=60)
    assert ollama.status_code == 400
    assert httpx.get(f"{brave}/health", timeout=60).status_code == 200


@pytest.fixture(scope="module")
def brave() -> Iterator[str]:
    """The URL of a server that may end without ending the tests."""
    with started() as (_, url):
        yield url


def test_the_longest_list_that_a_grammar_counts(server: Running) -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "maxItems": 900}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = chat(response_format=form, max_tokens=30)
    assert httpx.post(f"{server.url}{PATHS[0]}", content=body, headers=JSON, timeout=60).status_code == 200
