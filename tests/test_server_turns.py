"""Models that do not fit together take turns, however steady the requests for one of them are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from edgemoe.assistant import models as assistant_models
from edgemoe.config import LocalModel
from serving import PROMPT, Running, said, serving, until

ENDLESS = {"0": -100, "1": -100, "2": -100}
ALONE = {name: LocalModel(name, ctx=512, threads=1) for name in ("one", "other")}


def answered(server: Running, model: str, tokens: int) -> int:
    body = {"model": model, "messages": said(PROMPT), "max_tokens": tokens, "logit_bias": ENDLESS}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=120).status_code


def order(server: Running) -> list[str]:
    """Of models whose answers have ended, while one is asked again and again and the other one time."""
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(answered, server, "one", 450)]
        until(lambda: server.service.shared.in_use("one"))
        asked.append(threads.submit(answered, server, "other", 4))
        until(lambda: server.service.shared.waited_for == ["other"])
        asked += [threads.submit(answered, server, "one", 4) for _ in range(6)]
        assert [one.result() for one in asked] == [200] * 8
    return [record.model for record in server.service.log.recent]


def test_who_came_first_has_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assistant_models, "_TURN", 0.0)
    with serving(models=ALONE, parallel=4, queue=32) as server:
        assert order(server) == ["one", "other", *["one"] * 6]
        assert server.service.shared.waited_for == []


def test_a_turn_lasts_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading takes longer than answers: what comes meanwhile is answered by the model that is there."""
    monkeypatch.setattr(assistant_models, "_TURN", 1e9)
    with serving(models=ALONE, parallel=4, queue=32) as server:
        assert order(server) == [*["one"] * 7, "other"]


def test_who_hangs_up_leaves_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assistant_models, "_TURN", 0.0)
    with serving(models=ALONE, parallel=4, queue=32) as server, ThreadPoolExecutor(2) as threads:
        long = threads.submit(answered, server, "one", 450)
        until(lambda: server.service.shared.in_use("one"))
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{server.url}/api/generate", json={"model": "other", "prompt": "x"}, timeout=0.2)
        until(lambda: server.service.shared.waited_for == [])
        assert answered(server, "one", 4) == 200
        assert long.result() == 200
        assert server.service.loaded == ["one"]
