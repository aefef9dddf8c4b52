"""The assistant: local models and real servers on loopback behind one call, and what happens when a cloud fails."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from assistants import EASY, GREEDY, HARD, alone, assistant, endpoint, sent
from cloud_servers import (
    Server,
    fine,
    hangs,
    llama_server,
    without_proxies,
)
from edgemoe import Assistant, Cancelled, EdgeMoEError
from edgemoe.cloud import Ledger
from edgemoe.config import LocalModel
from edgemoe.default_model import default_model_path
from edgemoe.packs.unpack import unpack
from routers import HARMFUL_PROMPT

KEY = "sk-loopback-1234567890"


@pytest.fixture(autouse=True)
def on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)


@pytest.fixture(scope="module")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    unpack(default_model_path(), None, folder / "model.gguf")
    with llama_server(folder / "model.gguf", folder / "log.txt", KEY) as url:
        yield url


@pytest.fixture(scope="module")
def local(router_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Assistant]:
    """An assistant without a cloud; its model stays loaded."""
    with assistant(router_file, tmp_path_factory.mktemp("state")) as found:
        yield found


def text(answer: Iterator[str]) -> str:
    return "".join(answer)


# Who answers


def test_an_easy_prompt_is_answered_here(local: Assistant) -> None:
    answer = local.reply(EASY, **GREEDY)
    assert (answer.decision.route, answer.decision.target) == ("local", "small")
    pieces = list(answer)
    assert len(pieces) > 10
    assert "".join(pieces) == answer.text == alone(EASY)
    assert (answer.finish_reason, answer.answered_by, answer.cost) == ("length", ["small"], 0.0)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 24
    assert answer.usage.prompt_tokens > 5


def test_a_hard_prompt_is_answered_by_a_real_server(
    router_file: Path, tmp_path: Path, real_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    there = endpoint(real_server, key_variable="LOOPBACK_KEY", first_token_timeout=60.0, stall_timeout=60.0)
    with assistant(router_file, tmp_path, there) as here:
        answer = here.reply(HARD, **GREEDY)
        assert answer.decision.route == "cloud"
        theirs = openai.OpenAI(base_url=real_server, api_key=KEY).chat.completions
        same = theirs.create(model="big", messages=[{"role": "user", "content": HARD}], **GREEDY)
        assert text(answer) == same.choices[0].message.content
        assert (answer.answered_by, answer.notes, answer.finish_reason) == (["big"], [], "length")
        assert not here.models.loaded
        assert answer.cost == pytest.approx(Ledger(here.config.ledger).spent())
        assert answer.cost > 0.024
        streamed = list(here.reply(HARD, **GREEDY))
        assert len(streamed) > 10


def test_what_is_unsafe_is_refused_by_nobody_in_particular(router_file: Path, tmp_path: Path) -> None:
    with Server(fine) as server, assistant(router_file, tmp_path, endpoint(server), refusal="No.") as here:
        answer = here.reply(HARMFUL_PROMPT)
        assert (text(answer), answer.finish_reason, answer.answered_by) == ("No.", "refused", [])
        assert not server.visits
        assert not here.models.loaded


def test_targets_have_their_own_prompt_and_sampling(router_file: Path, tmp_path: Path) -> None:
    there = {"system": "Be brief.", "sampling": {"temperature": 0.25, "max_tokens": 7}}
    with Server(fine) as server, assistant(router_file, tmp_path, endpoint(server, **there)) as here:
        assert text(here.reply(HARD, top_k=3, temperature=0.5)) == "Hello you."
        asked = sent(server.visits[0])
        assert asked["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": HARD}]
        assert (asked["temperature"], asked["max_tokens"]) == (0.5, 7)
        assert "top_k" not in asked
        own: list[dict[str, Any]] = [{"role": "system", "content": "Be long."}, {"role": "user", "content": HARD}]
        text(here.reply(own))
        assert sent(server.visits[1])["messages"] == own


def test_a_long_conversation_loses_its_oldest_turns_here(local: Assistant) -> None:
    turns: list[dict[str, Any]] = []
    for i in range(30):
        turns += [{"role": "user", "content": f"{EASY} {i}"}, {"role": "assistant", "content": "Once upon a time."}]
    answer = local.reply([*turns, {"role": "user", "content": EASY}], **GREEDY)
    assert text(answer)
    assert any("oldest turns" in note for note in answer.notes)
    with pytest.raises(EdgeMoEError, match="too long"):
        text(local.reply("little story " * 2000))


# Threads and asyncio


def test_cancelling_from_another_thread(router_file: Path, tmp_path: Path, local: Assistant) -> None:
    with Server(hangs) as server, assistant(router_file, tmp_path, endpoint(server, first_token_timeout=60.0)) as here:
        answer = here.reply(HARD)
        threading.Timer(0.3, answer.cancel).start()
        with pytest.raises(Cancelled):
            text(answer)
        assert answer.text == ""
    answer = local.reply(EASY, temperature=0.0)
    next(answer)
    answer.cancel()
    with pytest.raises(Cancelled):
        text(answer)
    assert text(local.reply(EASY, **GREEDY)) == alone(EASY)


def test_threads_take_turns(local: Assistant) -> None:
    expected = alone(EASY)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(text(local.reply(EASY, **GREEDY)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == [expected] * 4


def test_asyncio_streams_and_cancels(router_file: Path, tmp_path: Path, local: Assistant) -> None:
    async def collect(answer: Any) -> str:
        return "".join([piece async for piece in answer])

    async def both() -> list[str]:
        return await asyncio.gather(*(collect(local.areply(EASY, **GREEDY)) for _ in range(2)))

    assert asyncio.run(both()) == [alone(EASY)] * 2

    async def closed_afterwards() -> str:
        async with local.areply(EASY, **GREEDY) as stream:
            whole = await collect(stream)
            assert await collect(stream) == ""
        await stream.aclose()
        return whole

    assert asyncio.run(closed_afterwards()) == alone(EASY)

    async def cancelled(here: Assistant, server: Server) -> None:
        stream = here.areply(HARD)
        task = asyncio.create_task(collect(stream))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stream.aclose()
        assert await asyncio.to_thread(server.visits[0].gone.wait, 20)

    with Server(hangs) as server, assistant(router_file, tmp_path, endpoint(server, first_token_timeout=60.0)) as here:
        asyncio.run(cancelled(here, server))


# Memory


def test_models_are_loaded_on_demand_and_unloaded_for_room(router_file: Path, tmp_path: Path) -> None:
    small = LocalModel("small", memory="600MiB", ctx=512)
    coder = LocalModel("coder", memory="700MiB", ctx=512, domains=("code",))
    for memory, together in (("1200MiB", False), ("1500MiB", True)):
        loads: list[str] = []
        with assistant(router_file, tmp_path, small, coder, memory=memory) as here:
            here.models._on_load = loads.append
            assert not here.models.loaded
            for prompt in (EASY, "a quick little python loop", EASY, EASY):
                assert text(here.reply(prompt, **GREEDY))
            assert loads == (["small", "coder"] if together else ["small", "coder", "small"])
            assert set(here.models.loaded) == ({"small", "coder"} if together else {"small"})
            limit = (1300 if together else 600) * 2**20
            assert all(llm.stats().budget_bytes <= limit for llm in here.models.loaded.values())


def test_a_model_in_use_is_not_unloaded(router_file: Path, tmp_path: Path) -> None:
    coder = LocalModel("coder", ctx=512, domains=("code",))
    with assistant(router_file, tmp_path, LocalModel("small", ctx=512), coder, memory="600MiB") as here:
        first = here.reply(EASY, **GREEDY)
        begun = next(first)
        done: list[str] = []
        other = threading.Thread(target=lambda: done.append(text(here.reply("a quick python loop", **GREEDY))))
        other.start()
        time.sleep(0.5)
        assert not done
        assert set(here.models.loaded) == {"small"}
        assert begun + text(first) == alone(EASY)
        other.join(60)
        assert done
        assert set(here.models.loaded) == {"coder"}


def test_who_waits_for_a_model_can_be_stopped(router_file: Path, tmp_path: Path) -> None:
    coder = LocalModel("coder", ctx=512, domains=("code",))
    with assistant(router_file, tmp_path, LocalModel("small", ctx=512), coder, memory="600MiB") as here:
        first = here.reply(EASY, **GREEDY)
        next(first)
        other = here.reply("a quick python loop", **GREEDY)
        ended: list[BaseException] = []

        def wait() -> None:
            try:
                text(other)
            except Cancelled as error:
                ended.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while "coder" not in here.models.waited_for:
            time.sleep(0.01)
        other.cancel()
        thread.join(5.0)
        assert ended
        assert text(first)


def test_a_thread_does_not_wait_for_itself(router_file: Path, tmp_path: Path) -> None:
    coder = LocalModel("coder", ctx=512, domains=("code",))
    with assistant(router_file, tmp_path, LocalModel("small", ctx=512), coder, memory="600MiB") as here:
        with here.reply(EASY, **GREEDY) as first:
            next(first)
            with pytest.raises(EdgeMoEError, match="coder needs the memory of small"):
                text(here.reply("a quick python loop", **GREEDY))
        assert text(here.reply("a quick python loop", **GREEDY))


def test_a_closed_assistant_says_so(router_file: Path, tmp_path: Path) -> None:
    with assistant(router_file, tmp_path) as here:
        text(here.reply(EASY, **GREEDY))
    with pytest.raises(EdgeMoEError, match="closed"):
        text(here.reply(EASY))
