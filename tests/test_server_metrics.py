"""/metrics says what happened, in words that Prometheus's own parser reads."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from assistants import EASY, HARD, answers, endpoint
from cloud_servers import Server
from edgemoe.config import Config, LocalModel
from edgemoe.server.exposition import family, quantile, summary
from serving import GREEDY, MODEL, PROMPT, Running, said, serving, until

CHAT = "/v1/chat/completions"
FORM = {"type": "json_object", "schema": {"enum": ["yes", "no"]}}
LONG: dict[str, Any] = {"temperature": 0.0, "max_tokens": 450, "logit_bias": {"0": -100, "1": -100, "2": -100}}


class Metrics:
    """The samples of a scrape."""

    def __init__(self, text: str) -> None:
        families = list(text_string_to_metric_families(text))
        assert len({one.name for one in families}) == len(families)
        assert all(one.documentation and one.type in ("counter", "gauge", "summary") for one in families)
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value for one in families for sample in one.samples
        }

    def __call__(self, name: str, **labels: object) -> float:
        return self._samples[f"edgemoe_{name}", frozenset((key, str(value)) for key, value in labels.items())]

    def http(self, endpoint: str, status: int, method: str = "POST") -> float:
        return self("http_requests_total", method=method, endpoint=endpoint, status=status)

    def has(self, name: str) -> bool:
        return any(found == f"edgemoe_{name}" for found, _ in self._samples)


def scrape(server: Running) -> Metrics:
    answer = httpx.get(f"{server.url}/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Metrics(answer.text)


def ask(server: Running, **options: Any) -> Any:
    return server.openai.chat.completions.create(model=MODEL, messages=said(PROMPT), **(GREEDY | options))


def test_requests_are_counted() -> None:
    with serving() as server:
        scrape(server)
        tokens = [ask(server).usage for _ in range(3)]
        list(ask(server, stream=True, max_tokens=4))
        body = {"model": MODEL, "messages": said(PROMPT), "stream": False, "options": {"num_predict": 4}}
        httpx.post(f"{server.url}/api/chat", json=body, timeout=60).raise_for_status()
        with pytest.raises(openai.NotFoundError):
            server.openai.chat.completions.create(model="none", messages=said(PROMPT))
        httpx.post(f"{server.url}{CHAT}", content=b"{", headers={"content-type": "application/json"})
        httpx.get(f"{server.url}/v1/models/{MODEL}")
        for path in ("a", "b"):
            httpx.get(f"{server.url}/{path}")
        with pytest.raises(openai.BadRequestError, match="the context holds"):
            server.openai.chat.completions.create(model=MODEL, messages=said("word " * 600))
        found = scrape(server)
    assert found.http(CHAT, 200) == 4
    assert found.http(CHAT, 404) == 1
    assert found.http(CHAT, 400) == 2
    assert found.http("/api/chat", 200) == 1
    assert found.http("/v1/models/{name:path}", 200, "GET") == 1
    assert found.http("other", 404, "GET") == 2
    assert found.http("/metrics", 200, "GET") == 1
    assert found("answers_total", outcome="length") == 5
    assert found("answers_total", outcome="wrong") == 1
    assert found("answers_total", outcome="busy") == found("answers_total", outcome="cancelled") == 0
    assert found("answers_by_api_total", api="openai") == 5
    assert found("answers_by_api_total", api="ollama") == 1
    assert found("accepted_answers_total") == 5
    assert found("tokens_total", tokens="completion") == sum(used.completion_tokens for used in tokens) + 8
    assert found("tokens_total", tokens="prompt") == 5 * tokens[0].prompt_tokens
    assert found("tokens_total", tokens="cached") > 0
    assert found("cost_total") == found("cost_per_accepted_answer") == 0


def test_times_are_those_of_the_requests() -> None:
    with serving() as server:
        assert math.isnan(scrape(server)("first_token_seconds", quantile=0.5))
        for _ in range(4):
            ask(server)
        found, records = scrape(server), server.service.log.recent
    for name, field in (("first_token", "first_token"), ("token", "per_token"), ("request", "total")):
        values = [getattr(record, field) for record in records]
        assert found(f"{name}_seconds_count") == 4
        assert found(f"{name}_seconds_sum") == pytest.approx(sum(values))
        assert found(f"{name}_seconds", quantile=0.5) == pytest.approx(np.quantile(values, 0.5))
        assert found(f"{name}_seconds", quantile=0.95) == pytest.approx(np.quantile(values, 0.95))


def test_the_model_and_its_memory() -> None:
    with serving() as server:
        before = scrape(server)
        assert before("model_loaded", model=MODEL) == before("read_bytes_total", model=MODEL) == 0
        assert not before.has("budget_bytes")
        assert not before.has("expert_hit_rate")
        ask(server)
        found, stats = scrape(server), server.service.shared.loaded[MODEL].stats()
        assert found("model_loaded", model=MODEL) == 1
        assert found("expert_hits_total", model=MODEL) == stats.hits > 0
        assert found("expert_misses_total", model=MODEL) == stats.misses > 0
        assert found("expert_hit_rate", model=MODEL) == pytest.approx(stats.hit_rate)
        assert found("read_bytes_total", model=MODEL) == stats.bytes_read > 0
        assert found("resident_expert_bytes", model=MODEL) == stats.resident_bytes > 0
        assert found("budget_bytes") == 4 << 30
        assert 1 << 20 < found("process_resident_bytes") < 4 << 30
        httpx.post(f"{server.url}/api/generate", json={"model": MODEL, "keep_alive": 0})
        until(lambda: not server.service.loaded)
        idle = scrape(server)
        assert idle("model_loaded", model=MODEL) == 0
        assert not idle.has("resident_expert_bytes")
        assert idle("read_bytes_total", model=MODEL) == stats.bytes_read
        ask(server)
        assert scrape(server)("expert_hits_total", model=MODEL) > stats.hits
        assert scrape(server)("read_bytes_total", model=MODEL) > stats.bytes_read


def test_forms_that_hold_are_counted() -> None:
    with serving() as server:
        ask(server, response_format=FORM)
        ask(server, response_format=FORM, max_tokens=1)
        found = scrape(server)
    assert found("schema_answers_total") == 2
    assert found("schema_valid_answers_total") == 1
    assert found("accepted_answers_total") == 1


def test_queues_refusals_and_those_who_hang_up() -> None:
    with serving(parallel=1, queue=1) as server, ThreadPoolExecutor(2) as threads:
        ask(server)
        asked = [threads.submit(ask, server, **LONG) for _ in range(2)]
        until(lambda: server.engine().active == 1 and server.engine().waiting == 1)
        with pytest.raises(openai.RateLimitError):
            ask(server)
        found = scrape(server)
        assert found("requests_active") == found("requests_waiting") == 1
        assert found("requests_in_progress") == found("requests_limit") == 2
        for one in asked:
            one.result()
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{server.url}{CHAT}", json={"messages": said(PROMPT)} | LONG, timeout=0.2)
        until(lambda: server.service.in_progress == 0)
        found = scrape(server)
    assert found("requests_active") == found("requests_waiting") == found("requests_in_progress") == 0
    assert found.http(CHAT, 200) == 3
    assert found.http(CHAT, 429) == found.http(CHAT, 499) == 1
    assert found("answers_total", outcome="busy") == found("answers_total", outcome="cancelled") == 1
    assert found("request_seconds_count") == 4


def test_who_may_not_come_in_is_counted() -> None:
    with serving(api_key="sesame") as server:
        httpx.get(f"{server.url}/v1/models")
        text = httpx.get(f"{server.url}/metrics", headers={"x-api-key": "sesame"}).text
    assert Metrics(text).http("other", 401, "GET") == 1


def test_routes_and_money(router_file: Path, tmp_path: Path) -> None:
    with Server(answers("Hello")) as cloud:
        config = Config(
            router=router_file,
            state=tmp_path,
            local={"small": LocalModel("small", ctx=512, threads=1)},
            cloud={"big": endpoint(cloud)},
            escalate="never",
        )
        with serving(models=config.local, memory="4GiB", config=config) as server:
            for text in (EASY, HARD, HARD):
                server.openai.chat.completions.create(model="auto", messages=said(text), **GREEDY)
            found, cost = scrape(server), server.service.log.cost
    assert found("routes_total", route="local") == 1
    assert found("routes_total", route="cloud") == 2
    assert found("escalations_total") == 0
    assert found("cost_total") == pytest.approx(cost)
    assert cost > 0
    assert found("cost_per_accepted_answer") == pytest.approx(cost / 3)


def test_the_format_escapes() -> None:
    odd = 'a "b"\\c\nd'
    text = family("x_total", "counter", odd, [({"model": odd}, 3)]) + summary("y", "Y.", [], 0.0, 0)
    first, second = text_string_to_metric_families(text)
    assert first.documentation == odd
    assert first.samples[0].labels == {"model": odd}
    assert first.samples[0].value == 3
    assert math.isnan(second.samples[0].value)
    assert family("z", "gauge", "Z.", []) == ""


def test_quantiles() -> None:
    values = sorted(np.random.default_rng(0).random(17).tolist())
    for q in (0.0, 0.5, 0.95, 1.0):
        assert quantile(values, q) == pytest.approx(np.quantile(values, q))
    assert quantile([2.0], 0.95) == 2.0
