"""Replicas on a real Ray: one killed under load, prompts kept together, answers as the plain server's."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx
import openai
import psutil
import pytest

from serving import GREEDY, MODEL, PROMPT, said, serving, until

ray = pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
pytest.importorskip("ray.serve", reason="ray is installed without serve")

SETTINGS = {"memory": "500MiB", "threads": 1, "ctx": 512, "parallel": 2, "min_replicas": 2, "max_replicas": 2}
REPLICA = "x-edgemoe-replica"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of two replicas of the default model behind Ray's proxy."""
    from ray import serve

    from edgemoe.serving.ray import app

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        token = tmp_path_factory.mktemp("ray") / "token"
        token.write_text(secrets.token_hex(32))
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))  # this cluster's own, and none in the user's folder
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]))
        ray.init(num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False)
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            serve.run(app(dict(SETTINGS)))
            yield f"http://127.0.0.1:{port}"
        finally:
            serve.shutdown()
            ray.shutdown()


def ask(url: str, prompt: str, **more: Any) -> httpx.Response:
    body = {"model": MODEL, "messages": said(prompt), **GREEDY, **more}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120)


def replicas(url: str) -> set[str]:
    """Those that answer: each has its own half of enough prompts."""
    return {ask(url, f"{n}: hello", max_tokens=1).headers[REPLICA] for n in range(12)}


def process_of(replica: str) -> psutil.Process:
    actor = ray.get_actor(f"SERVE_REPLICA::default#replicas#{replica}", namespace="serve")
    return psutil.Process(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())))


def test_answers_are_those_of_the_plain_server(url: str) -> None:
    with serving() as plain:
        for base in (url, plain.url):
            assert httpx.get(f"{base}/v1/models", timeout=60).json()["data"][0]["id"] == MODEL
        theirs = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)
        messages: Any = said(PROMPT)
        answers = [
            client.chat.completions.create(model=MODEL, messages=messages, **GREEDY).choices[0].message.content
            for client in (theirs, plain.openai)
        ]
        streams = [
            "".join(
                chunk.choices[0].delta.content or ""
                for chunk in client.chat.completions.create(model=MODEL, messages=messages, stream=True, **GREEDY)
            )
            for client in (theirs, plain.openai)
        ]
        assert len({*answers, *streams}) == 1
        assert answers[0]
        claude = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=60)
        said_by = [
            client.messages.create(
                model=MODEL, messages=messages, max_tokens=48, extra_body={"temperature": 0.0}
            ).content
            for client in (claude, plain.anthropic)
        ]
        assert said_by[0] == said_by[1]


def test_errors_are_those_of_the_plain_server(url: str) -> None:
    with serving() as plain:
        for path, body in (
            ("/v1/chat/completions", {"model": "nobody", "messages": said("hi")}),
            ("/v1/messages", {"model": MODEL, "messages": said("hi")}),
            ("/v1/nothing", {}),
        ):
            ours, theirs = (httpx.post(f"{base}{path}", json=body, timeout=60) for base in (url, plain.url))
            assert ours.status_code == theirs.status_code >= 400
            assert ours.json() == theirs.json()
        refused = httpx.post(f"{url}/v1/chat/completions", json={}, headers={"Host": "evil.example"}, timeout=60)
        assert refused.status_code == 403


def test_the_same_beginning_goes_to_the_same_replica(url: str) -> None:
    used = Counter[str]()
    for n in range(6):
        messages = said(f"Story number {n}. " + "The little fish swam in the big blue sea. " * 5)
        seen = set()
        cached = []
        for _ in range(3):
            answer = httpx.post(
                f"{url}/v1/chat/completions",
                json={"model": MODEL, "messages": messages, "temperature": 0.0, "max_tokens": 8},
                timeout=60,
            )
            seen.add(answer.headers[REPLICA])
            found = answer.json()
            cached.append(found["usage"]["prompt_tokens_details"]["cached_tokens"])
            messages = [*messages, found["choices"][0]["message"], *said("And then?")]
            messages = [{"role": m["role"], "content": m["content"]} for m in messages]
        assert len(seen) == 1
        assert cached[1] > 30
        assert cached[2] > cached[1]
        used.update(seen)
    assert len(used) == 2  # and both have some


def test_no_request_is_lost_with_a_replica_unless_it_streams(url: str) -> None:
    before = replicas(url)
    assert len(before) == 2
    victim = process_of(next(iter(before)))
    killed = threading.Event()

    def one(n: int) -> tuple[bool, bool]:
        """Whether it began to stream before the kill, and whether it was answered in full."""
        began_before = answered = False
        body = {"model": MODEL, "messages": said(f"{n}: a story"), **GREEDY, "max_tokens": 120, "stream": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=120) as response:
            assert response.status_code == 200, response.read()
            for line in response.iter_lines():
                began_before = began_before or (line.startswith("data: ") and not killed.is_set())
                answered = answered or line == "data: [DONE]"
                if line.startswith("data: {"):
                    assert "choices" in json.loads(line[6:]) or began_before, line
        return began_before, answered

    def whole(n: int) -> httpx.Response:
        return ask(url, f"{n}: tell me", max_tokens=60)

    with ThreadPoolExecutor(16) as clients:
        streams = [clients.submit(one, n) for n in range(14)]
        wholes = [clients.submit(whole, n) for n in range(14)]
        until(lambda: sum(f.done() for f in streams) >= 2)
        killed.set()
        victim.send_signal(signal.SIGKILL)
        ends = [f.result() for f in streams]
        answers = [f.result() for f in wholes]
    assert [answer.status_code for answer in answers] == [200] * 14
    assert all(answered for began_before, answered in ends if not began_before)
    assert sum(answered for _, answered in ends) >= 10  # those of the other replica, and all that had not begun
    until(lambda: len(replicas(url)) == 2, 120)  # Ray starts another one
    assert next(iter(before)) not in replicas(url) or len(before & replicas(url)) == 1


def test_a_full_queue_is_refused(url: str) -> None:
    with ThreadPoolExecutor(60) as clients:
        statuses = Counter(
            f.result().status_code for f in [clients.submit(ask, url, f"{n}: hi", max_tokens=40) for n in range(60)]
        )
    assert set(statuses) == {200, 429}


def test_a_client_that_hangs_up_stops_its_answer(url: str) -> None:
    body = {"model": MODEL, "messages": said("Once"), "max_tokens": 400, "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response:
        next(response.iter_lines())
        replica = response.headers[REPLICA]
    end = time.monotonic() + 30
    while True:
        health = httpx.get(f"{url}/health", timeout=60)
        if health.headers[REPLICA] == replica and health.json()["in_progress"] == 0:
            break
        assert time.monotonic() < end
