"""The cloud client with a real server: llama-cpp-python's, which has the default model as a plain GGUF."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloud_servers import llama_server
from edgemoe import Cancelled, CloudError
from edgemoe.cloud import Cloud, Endpoint, Piece
from trained import f16_model_path

KEY = "sk-loopback-1234567890"
VARIABLE = "TEST_CLOUD_KEY"
QUESTION = [{"role": "user", "content": "Tell me a story about a cat."}]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with llama_server(f16_model_path(), tmp_path_factory.mktemp("server") / "log.txt", KEY) as url:
        yield url


@pytest.fixture
def cloud(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setenv(VARIABLE, KEY)
    cloud = Cloud(Endpoint("here", url, "tinystories", key_variable=VARIABLE, input_price=1.0, output_price=4.0))
    yield cloud
    cloud.close()


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def test_an_answer_streams(cloud: Cloud) -> None:
    pieces = list(cloud.stream(QUESTION, max_tokens=24, temperature=0.0))
    assert len(pieces) > 10
    assert len(text_of(pieces)) > 40
    assert [p.finish_reason for p in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert [p.usage for p in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].finish_reason == "length"


def test_what_the_server_does_not_count_is_estimated(cloud: Cloud) -> None:
    pieces = list(cloud.stream(QUESTION, max_tokens=24, temperature=0.0))
    usage = pieces[-1].usage
    assert usage is not None
    assert usage.estimated
    assert usage.completion_tokens == pytest.approx(len(text_of(pieces)) / 4, abs=1)
    assert cloud.cost(usage.prompt_tokens, usage.completion_tokens) == pytest.approx(
        (usage.prompt_tokens + 4 * usage.completion_tokens) / 1e6
    )


def test_asyncio_gets_the_same(cloud: Cloud) -> None:
    async def ask() -> list[Piece]:
        return [piece async for piece in cloud.astream(QUESTION, max_tokens=24, temperature=0.0)]

    expected = list(cloud.stream(QUESTION, max_tokens=24, temperature=0.0))
    for _ in range(2):  # each in an event loop of its own
        assert asyncio.run(ask()) == expected


def test_threads_may_share_a_client(cloud: Cloud) -> None:
    def ask(_: int) -> str:
        return text_of(list(cloud.stream(QUESTION, max_tokens=8, temperature=0.0)))

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1


def test_sampling_reaches_the_server(cloud: Cloud) -> None:
    short, stopped = (
        text_of(list(cloud.stream(QUESTION, temperature=0.0, **sampling)))
        for sampling in ({"max_tokens": 3}, {"max_tokens": 24, "stop": ["time"]})
    )
    assert 0 < len(short) < 30
    assert "time" not in stopped
    with pytest.raises(CloudError, match=r"HTTP \d+ .*valid integer"):
        list(cloud.stream(QUESTION, max_tokens="many"))


def test_a_cancelled_answer_leaves_a_usable_client(cloud: Cloud) -> None:
    cancel = threading.Event()
    answer = cloud.stream(QUESTION, cancel=cancel, max_tokens=400)
    assert next(answer).text
    cancel.set()
    with pytest.raises(Cancelled):
        list(answer)
    assert cloud.unavailable() is None
    assert list(cloud.stream(QUESTION, max_tokens=4))


def test_a_wrong_key_is_told_and_not_shown(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "sk-wrong-key")
    with pytest.raises(CloudError, match="HTTP 401 Unauthorized: Invalid API key") as caught:
        list(cloud.stream(QUESTION))
    assert "sk-wrong" not in str(caught.value)
    assert not caught.value.started


def test_messages_that_the_server_refuses(cloud: Cloud) -> None:
    with pytest.raises(CloudError, match="HTTP 4|HTTP 5|reported an error|in the middle"):
        list(cloud.stream([{"role": "user", "content": "word " * 2000}], max_tokens=4))


def test_a_wrong_base_url(url: str) -> None:
    with pytest.raises(CloudError, match="HTTP 404"):
        list(Cloud(Endpoint("elsewhere", f"{url}/nowhere", "any")).stream(QUESTION))
