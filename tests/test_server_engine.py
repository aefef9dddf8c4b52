"""What the page is made of: its files and their headers, and the state of the engine that it draws."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from edgemoe.default_model import default_model_path
from edgemoe.errors import EdgeMoEError
from edgemoe.packs.summary import expert_bits
from edgemoe.server.page.state import FRESH, describe
from serving import GREEDY, MODEL, PROMPT, Running, alone, said, serving, until


def state(server: Running) -> Any:
    return httpx.get(f"{server.url}/engine", headers={"x-api-key": server.api_key}).json()


def test_the_page_and_its_files_need_no_key_and_the_engine_does() -> None:
    with serving(api_key="a key") as server:
        page = httpx.get(f"{server.url}/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        for name, kind in (("main.js", "text/javascript"), ("style.css", "text/css"), ("icon.svg", "image/svg+xml")):
            found = httpx.get(f"{server.url}/page/{name}")
            assert found.headers["content-type"] == f"{kind}; charset=utf-8"
            policy = found.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "//" not in policy
        assert httpx.get(f"{server.url}/engine").status_code == 401
        assert state(server)["models"][0]["name"] == MODEL


@pytest.mark.parametrize(
    "name", ["state.py", "__init__.py", "none.js", "..%2Fapp.py", "%2e%2e/app.py", "main.js%00", ""]
)
def test_nothing_but_the_files_of_the_page_is_served(name: str) -> None:
    with serving() as server:
        assert httpx.get(f"{server.url}/page/{name}").status_code == 404


def test_the_state_tells_what_the_engine_did() -> None:
    with serving() as server:
        [model] = state(server)["models"]
        assert not model["loaded"]
        assert model["counters"] is None
        assert model["layers"] == []
        server.openai.chat.completions.create(model=MODEL, messages=said(PROMPT), **GREEDY)
        until(lambda: state(server)["recent"], FRESH + 10)
        found = state(server)
        [model] = found["models"]
        assert model["loaded"]
        assert model["memory"]["budget"] == 4 << 30
        assert 0 < model["memory"]["experts"] <= model["memory"]["cache"] < model["memory"]["process"]
        assert model["counters"]["decode_tokens"] > 40
        bits = [bits for layer in model["layers"] for bits in layer["bits"]]
        assert len(bits) == 6 * 16
        assert max(bits) == pytest.approx(model["full_bits"], abs=0.01)
        [answer] = found["recent"]
        assert answer["outcome"] == "length"
        assert answer["completion_tokens"] == 48
        assert answer["tokens_per_second"] > 0
        assert found["totals"]["requests"] == 1


def test_whole_experts_have_as_many_bits_as_their_file_says() -> None:
    with alone() as llm:
        llm.create_completion("Once upon a time", max_tokens=48)
        found = max(bits for layer in llm.resident_bits().values() for bits in layer)
        assert expert_bits(default_model_path()) == pytest.approx(found, rel=1e-6)


def test_a_closed_model_says_so() -> None:
    with alone() as llm:
        llm.close()
        with pytest.raises(EdgeMoEError, match="closed"):
            llm.stats()
        with pytest.raises(EdgeMoEError, match="closed"):
            llm.resident_bits()


def test_the_engine_is_read_while_models_come_and_go() -> None:
    with serving(keep_alive=0.01) as server, ThreadPoolExecutor(2) as threads:
        stop = threading.Event()
        seen = set()

        def read() -> None:
            while not stop.is_set():
                [model] = describe(server.service.snapshot()).models
                assert model.loaded == bool(model.layers)
                seen.add(model.loaded)

        readers = [threads.submit(read) for _ in range(2)]
        try:
            for _ in range(4):
                server.openai.chat.completions.create(
                    model=MODEL, messages=said(PROMPT), **(GREEDY | {"max_tokens": 8})
                )
                until(lambda: not server.service.loaded)
        finally:
            stop.set()
        for reader in readers:
            reader.result()
        assert seen == {False, True}
