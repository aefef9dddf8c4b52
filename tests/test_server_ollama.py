"""ollama's own client gets from the server what OpenAI's gets, and lists the models."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from typing import Any

import httpx
import ollama
import pytest

from edgemoe import Llama
from edgemoe.default_model import default_model_path
from edgemoe.errors import EdgeMoEError
from edgemoe.server.durations import parse_keep_alive
from serving import GREEDY, MODEL, PROMPT, Running, said, until

OPTIONS: dict[str, Any] = {"temperature": 0, "num_predict": 48}
SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
TOOL = {"type": "function", "function": {"name": "paint", "description": "Paints.", "parameters": SCHEMA}}


@pytest.fixture(scope="module")
def expected(llm: Llama) -> dict[str, Any]:
    """The answer to PROMPT."""
    found: dict[str, Any] = llm.create_chat_completion(said(PROMPT), **GREEDY)
    return found


def client(server: Running) -> ollama.Client:
    return ollama.Client(server.url)


def test_a_chat_is_that_of_openais_api(server: Running, expected: dict[str, Any]) -> None:
    got = client(server).chat(MODEL, said(PROMPT), options=OPTIONS)
    theirs = server.openai.chat.completions.create(model=MODEL, messages=said(PROMPT), **GREEDY)
    assert got.message.content == theirs.choices[0].message.content == expected["choices"][0]["message"]["content"]
    assert (got.model, got.message.role, got.done, got.done_reason) == (MODEL, "assistant", True, "length")
    assert got.prompt_eval_count == theirs.usage.prompt_tokens
    assert got.eval_count == theirs.usage.completion_tokens == 48


def test_a_stream_is_the_same_answer_in_pieces(server: Running, expected: dict[str, Any]) -> None:
    chunks = list(client(server).chat(MODEL, said(PROMPT), options=OPTIONS, stream=True))
    assert "".join(chunk.message.content for chunk in chunks) == expected["choices"][0]["message"]["content"]
    assert len(chunks) > 20
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].message.content == ""
    assert chunks[-1].eval_count == 48
    assert chunks[0].eval_count is None


def test_times_are_nanoseconds(server: Running) -> None:
    began = time.monotonic_ns()
    got = client(server).chat(MODEL, said(PROMPT), options=OPTIONS)
    took = time.monotonic_ns() - began
    parts = (got.load_duration, got.prompt_eval_duration, got.eval_duration)
    assert all(part >= 0 for part in parts)
    assert got.eval_duration > 0
    assert abs(got.total_duration - sum(parts)) <= 3
    assert 1_000_000 < got.total_duration <= took
    assert abs(datetime.fromisoformat(got.created_at.replace("Z", "+00:00")).timestamp() - time.time()) < 60


def test_streams_unless_told_otherwise(server: Running) -> None:
    body = {"model": MODEL, "messages": said(PROMPT), "options": OPTIONS}
    answer = httpx.post(f"{server.url}/api/chat", json=body, timeout=60)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert len([json.loads(line) for line in answer.text.splitlines()]) > 20


def test_a_generation_is_the_answer_to_one_message(server: Running, expected: dict[str, Any], llm: Llama) -> None:
    got = client(server).generate(MODEL, PROMPT, options=OPTIONS)
    assert got.response == expected["choices"][0]["message"]["content"]
    messages = [{"role": "system", "content": "Be kind."}, *said(PROMPT)]
    kind = llm.create_chat_completion(messages, **GREEDY)["choices"][0]["message"]["content"]
    chunks = list(client(server).generate(MODEL, PROMPT, system="Be kind.", options=OPTIONS, stream=True))
    assert "".join(chunk.response for chunk in chunks) == kind
    assert chunks[-1].done_reason == "length"


def test_raw_prompts_are_continued(server: Running) -> None:
    got = client(server).generate(MODEL, "Once upon a time", raw=True, options=OPTIONS)
    theirs = server.openai.completions.create(model=MODEL, prompt="Once upon a time", **GREEDY)
    assert got.response == theirs.choices[0].text


def test_the_asynchronous_client(server: Running, expected: dict[str, Any]) -> None:
    async def ask() -> str:
        stream = await ollama.AsyncClient(server.url).chat(MODEL, said(PROMPT), options=OPTIONS, stream=True)
        return "".join([chunk.message.content async for chunk in stream])

    assert asyncio.run(ask()) == expected["choices"][0]["message"]["content"]


def test_options_reach_the_sampler(server: Running) -> None:
    ask = client(server).chat
    options = {"temperature": 1.5, "top_p": 0.9, "top_k": 20, "min_p": 0.01, "seed": 7, "num_predict": 24}
    theirs = {"temperature": 1.5, "top_p": 0.9, "seed": 7, "max_tokens": 24, "extra_body": {"top_k": 20, "min_p": 0.01}}
    got = ask(MODEL, said(PROMPT), options=options).message.content
    assert got == ask(MODEL, said(PROMPT), options=options).message.content
    want = server.openai.chat.completions.create(model=MODEL, messages=said(PROMPT), **theirs)
    assert got == want.choices[0].message.content
    assert got != ask(MODEL, said(PROMPT), options=options | {"seed": 8}).message.content
    stopped = ask(MODEL, said(PROMPT), options=OPTIONS | {"stop": ["zzz", " little"]})
    assert (stopped.message.content, stopped.done_reason) == ("Once upon a time, there was a", "stop")
    assert ask(MODEL, said(PROMPT), options={"num_predict": 3}).eval_count == 3


def test_num_ctx_limits_prompt_and_answer(server: Running) -> None:
    options = {"temperature": 0, "num_predict": -1, "num_ctx": 40}
    got = client(server).chat(MODEL, said(PROMPT), options=options)
    assert got.prompt_eval_count + got.eval_count == 40
    with pytest.raises(ollama.ResponseError, match="the context holds 40.*ask for a larger context") as caught:
        client(server).chat(MODEL, said("word " * 60), options=options)
    assert caught.value.status_code == 400


def test_forms_hold(server: Running) -> None:
    got = client(server).chat(MODEL, said(PROMPT), format=SCHEMA, options=OPTIONS)
    assert json.loads(got.message.content)["colour"] in ("red", "blue")
    with pytest.raises(ollama.ResponseError, match="tools: an answer cannot both have a form and be a call"):
        client(server).chat(MODEL, said(PROMPT), format=SCHEMA, tools=[TOOL], options=OPTIONS)
    short = {"type": "object", "properties": {}, "additionalProperties": False}
    assert json.loads(client(server).generate(MODEL, PROMPT, format=short, options=OPTIONS).response) == {}
    got = client(server).generate(MODEL, PROMPT, format="json", options=OPTIONS)
    assert got.response.lstrip().startswith("{")


def test_tools(server: Running) -> None:
    def weather(city: str) -> str:
        """It rains?

        Args:
            city: where
        """
        return city

    plain = client(server).chat(MODEL, said(PROMPT), options=OPTIONS)
    got = client(server).chat(MODEL, said(PROMPT), tools=[weather, TOOL], options=OPTIONS)
    assert got.prompt_eval_count > 3 * plain.prompt_eval_count
    call = {"function": {"name": "weather", "arguments": {"city": "Rome"}}}
    history = [
        *said(PROMPT),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "sunny", "tool_name": "weather"},
    ]
    assert client(server).chat(MODEL, history, tools=[weather], options=OPTIONS).message.content


def test_calls_are_read_from_the_text(server: Running) -> None:
    """The small model calls nothing by itself: a text that it only has to repeat makes it."""
    from edgemoe.server.ollama_shapes import Shape
    from edgemoe.server.reply import Progress, Reply
    from edgemoe.server.requests import Piece
    from edgemoe.server.tools import ToolReader

    async def parts() -> list[dict[str, Any]]:
        reader, shape = ToolReader(), Shape(True, MODEL, Reply(MODEL, Progress(), lambda: None))
        text = '<tool_call>{"name": "paint", "arguments": {"colour": "red"}}</tool_call>'
        pieces = [*reader.read(Piece(text)), *reader.read(Piece(finish_reason="stop"))]
        return [shape.part([piece]) for piece in pieces]

    first, last = (ollama.ChatResponse(**part) for part in asyncio.run(parts()))
    assert first.message.tool_calls[0].function.name == "paint"
    assert first.message.tool_calls[0].function.arguments == {"colour": "red"}
    assert (last.done, last.done_reason) == (True, "stop")


def test_log_probabilities(server: Running) -> None:
    got = client(server).chat(MODEL, said(PROMPT), options=OPTIONS, logprobs=True, top_logprobs=2)
    options = GREEDY | {"logprobs": True, "top_logprobs": 2}
    want = server.openai.chat.completions.create(model=MODEL, messages=said(PROMPT), **options)
    theirs = want.choices[0].logprobs.content
    assert [one.token for one in got.logprobs] == [one.token for one in theirs]
    assert len(got.logprobs[0].top_logprobs) == 2
    assert got.logprobs[0].logprob == pytest.approx(theirs[0].logprob, abs=1e-3)


def test_models_are_listed_and_shown(server: Running) -> None:
    [model] = client(server).list().models
    assert model.model == f"{MODEL}:latest"
    assert model.size == default_model_path().stat().st_size
    assert (model.details.family, model.details.format) == ("qwen3moe", "gguf")
    assert model.details.parameter_size.endswith("M")
    assert 20 < float(model.details.parameter_size[:-1]) < 30
    shown = client(server).show(model.model)
    assert shown.modelinfo["qwen3moe.expert_count"] == 16
    assert "im_start" in shown.template
    assert shown.capabilities == ["completion", "tools"]
    assert client(server).chat(model.model, said(PROMPT), options=OPTIONS).model == model.model


def test_a_server_says_that_it_is_there(server: Running) -> None:
    assert httpx.head(server.url).status_code == 200
    assert httpx.head(f"{server.url}/api/tags").status_code == 200
    assert httpx.head(f"{server.url}/health").status_code == 200
    version = httpx.get(f"{server.url}/api/version").json()
    assert version["version"].count(".") == 2


def test_keep_alive(server: Running) -> None:
    ask = client(server)
    ask.chat(MODEL, said(PROMPT), options=OPTIONS, keep_alive="1h30m")
    [loaded] = ask.ps().models
    assert loaded.model == f"{MODEL}:latest"
    assert loaded.context_length == 512
    assert loaded.size > 0
    assert 5000 < loaded.expires_at.timestamp() - time.time() <= 5400
    for ever in (-1, 1e300):
        ask.chat(MODEL, said(PROMPT), options=OPTIONS, keep_alive=ever)
        assert ask.ps().models[0].expires_at.year > 2200
    got = ask.generate(MODEL, keep_alive=0)
    assert (got.done, got.done_reason) == (True, "unload")
    until(lambda: not server.service.loaded)
    assert ask.ps().models == []
    assert ask.generate(MODEL).done_reason == "load"
    assert server.service.loaded == [MODEL]
    assert 200 < ask.ps().models[0].expires_at.timestamp() - time.time() <= 300
    assert ask.chat(MODEL, said(PROMPT), options=OPTIONS, keep_alive=0).message.content
    until(lambda: not server.service.loaded)


def test_times_to_keep() -> None:
    texts = ("5m", "1h30m", "500ms", "90", "-1", "-1m", "0")
    assert [parse_keep_alive(text) for text in texts] == [300, 5400, 0.5, 90, None, None, 0]
    assert [parse_keep_alive(number) for number in (0, 2.5, -1)] == [0, 2.5, None]
    for wrong in ("", "soon", "5 m", "m", "-"):
        with pytest.raises(EdgeMoEError, match="is no time"):
            parse_keep_alive(wrong)


def test_errors_are_in_the_words_of_the_api(server: Running) -> None:
    ask = client(server)
    with pytest.raises(ollama.ResponseError, match="did you mean 'tinystories-moe'") as unknown:
        ask.chat("tinystories", said(PROMPT))
    assert unknown.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="the context holds 512"):
        ask.chat(MODEL, said("word " * 600))
    with pytest.raises(ollama.ResponseError, match="the context holds 512") as early:
        list(ask.chat(MODEL, said("word " * 600), stream=True))
    assert early.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="messages.0.images: .* cannot be used"):
        ask.chat(MODEL, [{"role": "user", "content": "What is it?", "images": [b"x"]}])
    with pytest.raises(ollama.ResponseError, match="suffix: 'end' cannot be used"):
        ask.generate(MODEL, PROMPT, suffix="end")
    with pytest.raises(ollama.ResponseError, match="'soon' is no time"):
        ask.chat(MODEL, said(PROMPT), keep_alive="soon")
    with pytest.raises(ollama.ResponseError, match="makes text, not embeddings"):
        ask.embed(MODEL, "x")
    wrong = httpx.post(f"{server.url}/api/chat", json={"model": MODEL, "options": {"temperature": "hot"}})
    assert wrong.status_code == 400
    assert wrong.json() == {"error": "options.temperature: Input should be a valid number, not 'hot'"}
    assert httpx.post(f"{server.url}/api/pull", json={"model": "x"}).status_code == 404


def test_a_stream_that_fails_says_so(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    client(server).generate(MODEL)
    engine = server.engine()
    step = engine._step
    steps = iter(range(100))
    monkeypatch.setattr(engine, "_step", lambda: step() if next(steps) < 5 else 1 / 0)
    with pytest.raises(ollama.ResponseError, match="the server failed"):
        list(client(server).chat(MODEL, said(PROMPT), options=OPTIONS, stream=True))
