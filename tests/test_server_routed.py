"""The model "auto": the router chooses between the model here and a server in the cloud's place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from assistants import EASY, HARD, answers, endpoint, sent
from cloud_servers import Server
from edgemoe.config import Config, LocalModel
from serving import GREEDY, Running, said, serving

SMALL = LocalModel("small", ctx=512, threads=1)


@contextmanager
def routed(router: Path, state: Path, cloud: Server, local_only: bool = False, **options: Any) -> Iterator[Running]:
    config = Config(
        router=router, state=state, local={"small": SMALL}, cloud={"big": endpoint(cloud)}, escalate="never", **options
    )
    with serving(models=config.local, memory="4GiB", config=config, local_only=local_only) as running:
        yield running


def ask(server: Running, text: str, model: str = "auto", **options: Any) -> Any:
    return server.openai.chat.completions.create(model=model, messages=said(text), **(GREEDY | options))


def test_the_router_chooses_who_answers(router_file: Path, tmp_path: Path) -> None:
    with Server(answers("Hello", " there")) as cloud, routed(router_file, tmp_path, cloud) as server:
        assert [model.id for model in server.openai.models.list()] == ["auto", "small"]
        here = ask(server, EASY)
        assert here.model == "small"
        assert here.edgemoe["route"] == "local"
        assert here.choices[0].message.content == ask(server, EASY, "small").choices[0].message.content
        assert here.usage.completion_tokens > 1
        there = ask(server, HARD)
        assert there.choices[0].message.content == "Hello there"
        assert there.model == "big"
        assert there.edgemoe["cost"] > 0
        assert there.usage.prompt_tokens == 100
        chunks = list(ask(server, HARD, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello there"
        message = server.anthropic.messages.create(model="auto", messages=said(HARD), max_tokens=48)
        assert message.content[0].text == "Hello there"
        snapshot = server.service.snapshot()
        assert snapshot.totals["route.cloud"] == 3
        assert snapshot.totals["route.local"] == 1
        assert snapshot.cost > 0
        assert server.service.in_progress == 0


def test_what_is_private_stays_here(router_file: Path, tmp_path: Path) -> None:
    with Server(answers("Hello")) as cloud, routed(router_file, tmp_path, cloud) as server:
        got = ask(server, HARD, extra_body={"private": True})
        assert got.edgemoe["route"] == "local"
        assert got.edgemoe["private"]
        assert not cloud.requests


def test_a_server_that_is_local_asks_no_cloud(router_file: Path, tmp_path: Path) -> None:
    with Server(answers("Hello")) as cloud, routed(router_file, tmp_path, cloud, local_only=True) as server:
        got = ask(server, HARD)
        assert (got.edgemoe["route"], got.edgemoe["rule"], got.model) == ("local", "local only", "small")
        again = server.anthropic.messages.create(model="auto", messages=said(HARD), max_tokens=4)
        assert again.model == "small"
        with httpx.stream("POST", f"{server.url}/api/generate", json={"model": "auto", "prompt": HARD}) as answer:
            assert '"done": true' in answer.read().decode()
        assert not cloud.requests


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": HARD, "max_tokens": 4}),
        ("/v1/messages", {"messages": said(HARD), "max_tokens": 4}),
        ("/api/chat", {"messages": said(HARD), "options": {"num_predict": 4}, "stream": False}),
        ("/api/generate", {"prompt": HARD, "options": {"num_predict": 4}, "stream": False}),
    ],
)
def test_what_is_private_stays_here_in_every_api(
    router_file: Path, tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    with Server(answers("Hello")) as cloud, routed(router_file, tmp_path, cloud) as server:
        private = httpx.post(f"{server.url}{path}", json={"model": "auto", "private": True, **body}, timeout=60)
        assert private.status_code == 200
        assert not cloud.requests
        assert httpx.post(f"{server.url}{path}", json={"model": "auto", **body}, timeout=60).status_code == 200
        assert len(cloud.requests) == 1


@pytest.mark.parametrize("only_here", [{"logprobs": True}, {"logit_bias": {"5": -100}}])
@pytest.mark.parametrize("private", [True, False])
def test_a_private_conversation_stays_here_after_what_only_the_model_here_can_do(
    router_file: Path, tmp_path: Path, only_here: dict[str, Any], private: bool
) -> None:
    with Server(answers("Hello")) as cloud, routed(router_file, tmp_path, cloud) as server:
        first = ask(server, HARD, extra_body={"private": private}, **only_here)
        answered = {"role": "assistant", "content": first.choices[0].message.content}
        server.openai.chat.completions.create(
            model="auto", messages=[*said(HARD), answered, *said(HARD)], **(GREEDY | {"max_tokens": 4})
        )
        assert len(cloud.requests) == (0 if private else 1)


def test_schemas_are_for_the_model_here(router_file: Path, tmp_path: Path) -> None:
    form = {"type": "json_object", "schema": {"enum": ["yes", "no"]}}
    with Server(answers("Hello")) as cloud, routed(router_file, tmp_path, cloud) as server:
        got = ask(server, HARD, response_format=form)
        assert json.loads(got.choices[0].message.content) in ("yes", "no")
        assert not cloud.requests


def test_what_names_tokens_is_for_the_model_here(router_file: Path, tmp_path: Path) -> None:
    with Server(answers("Hello")) as cloud, routed(router_file, tmp_path, cloud) as server:
        assert ask(server, HARD, logit_bias={"5": -100}, max_tokens=4).edgemoe["route"] == "local"
        assert not cloud.requests


def test_images_are_refused_before_anybody_is_asked(router_file: Path, tmp_path: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    asked: Any = [{"role": "user", "content": [{"type": "text", "text": HARD}, image]}]
    with Server(answers("Hello")) as cloud, routed(router_file, tmp_path, cloud) as server:
        for model in ("auto", "small"):
            with pytest.raises(openai.BadRequestError, match="'image_url' cannot be used"):
                server.openai.chat.completions.create(model=model, messages=asked, **GREEDY)
        assert not cloud.requests


def test_options_reach_the_cloud(router_file: Path, tmp_path: Path) -> None:
    with Server(answers("Hello")) as cloud, routed(router_file, tmp_path, cloud) as server:
        ask(server, HARD, stop=["x"], temperature=0.5, max_tokens=9)
        body = sent(cloud.requests[0])
        assert (body["stop"], body["temperature"], body["max_tokens"]) == (["x"], 0.5, 9)


def test_a_cloud_that_fails_is_replaced(router_file: Path, tmp_path: Path) -> None:
    with Server(lambda visit: visit.answer("{}", "500 Oops")) as cloud, routed(router_file, tmp_path, cloud) as server:
        got = ask(server, HARD)
        assert got.choices[0].message.content
        assert got.model == "small"
        assert any("failed" in note for note in got.edgemoe["notes"])


def test_unknown_models_are_named(router_file: Path, tmp_path: Path) -> None:
    with (
        Server(answers("Hello")) as cloud,
        routed(router_file, tmp_path, cloud) as server,
        pytest.raises(openai.NotFoundError, match="did you mean 'small'"),
    ):
        ask(server, EASY, "smal")
