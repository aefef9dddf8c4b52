"""Fields that clients seldom send have the effect that they are sent for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from edgemoe import Llama
from edgemoe.config import LocalModel
from edgemoe.server.prepare import prepare
from edgemoe.server.requests import Request
from edgemoe.server.vocabulary import Vocabulary
from serving import MODEL, PROMPT, Running, said, serving

GREEDY: dict[str, Any] = {"temperature": 0, "num_predict": 48}
SWITCH = "{% if enable_thinking is defined %}{{ ' yes' if enable_thinking else ' no, not at all' }}{% endif %}"
EFFORT = "{% if reasoning_effort is defined %}{{ ' hard' * (9 if reasoning_effort == 'high' else 2) }}{% endif %}"
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def said_to(server: Running, options: dict[str, Any], **more: Any) -> str:
    body = {"model": MODEL, "prompt": PROMPT, "stream": False, "options": GREEDY | options, **more}
    answer = httpx.post(f"{server.url}/api/generate", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["response"])


def test_penalties_look_back_as_far_as_they_are_told(server: Running) -> None:
    plain = said_to(server, {})
    assert said_to(server, {"repeat_penalty": 1.8}) != plain
    assert said_to(server, {"repeat_penalty": 1.8, "repeat_last_n": 0}) == plain
    assert said_to(server, {"repeat_penalty": 1.8, "repeat_last_n": -1}) == said_to(server, {"repeat_penalty": 1.8})
    assert said_to(server, {"repeat_penalty": 1.8, "repeat_last_n": 2}) != said_to(server, {"repeat_penalty": 1.8})


def test_typical_sampling(server: Running) -> None:
    wild = {"temperature": 1.5, "seed": 3, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    assert said_to(server, wild | {"typical_p": 1.0}) == said_to(server, wild)
    assert said_to(server, wild | {"typical_p": 0.1}) != said_to(server, wild)


def test_a_tool_that_failed_is_told_as_such(server: Running) -> None:
    def tokens(**more: Any) -> int:
        use = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "1", "content": "no such file", **more}
        messages = [*said(PROMPT), {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
        return server.anthropic.messages.count_tokens(model=MODEL, messages=messages).input_tokens

    assert tokens(is_error=True) == tokens(content="Error: no such file") > tokens() == tokens(is_error=False)


def test_one_call_at_the_most(llm: Llama) -> None:
    """What ends the first call ends the answer."""
    request = Request(messages=tuple(said(PROMPT)), tools=(FUNCTION,))
    several, _ = prepare(llm, request, 512, {})
    one, _ = prepare(llm, Request(messages=tuple(said(PROMPT)), tools=(FUNCTION,), parallel=False), 512, {})
    assert {*one.ends} - {*several.ends} == {"</tool_call>"}


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("begin", ["<tool_call>", "Well. <tool_call>\n", 'So <tool_call>{"na'])
def test_calls_of_strict_functions_have_their_schema(llm: Llama, begin: str, parallel: bool) -> None:
    """The small model calls nothing by itself: it is made to begin, and then draws whatever it likes."""
    schema = {"type": "object", "properties": {"x": {"enum": ["red", "blue"]}}, "required": ["x"]}
    strict = {"type": "function", "function": {"name": "paint", "parameters": schema, "strict": True}}
    asked = Request(messages=tuple(said(PROMPT)), tools=(strict,), parallel=parallel)
    job, _ = prepare(llm, asked, 512, {})
    pieces, chance, text = Vocabulary(llm), np.random.default_rng(1), b""
    wanted = llm.tokenize(begin.encode(), add_bos=False)
    while not text.endswith(b"</tool_call>") and len(text) < 4000:
        row = chance.normal(size=llm.n_vocab()).astype(np.single)
        if wanted:
            row[wanted.pop(0)] = 1000
        text += pieces.piece(job.sampler.draw(row))
    free, _, call = text.decode().partition("<tool_call>")
    assert free == begin.partition("<tool_call>")[0]
    found = json.loads(call.removesuffix("</tool_call>"))
    assert found["name"] == "paint"
    assert found["arguments"]["x"] in ("red", "blue")
    job.sampler.close()


def test_strict_functions_may_be_left_alone(server: Running) -> None:
    strict = {"type": "function", "function": {"name": "paint", "parameters": {"type": "object"}, "strict": True}}
    got = server.openai.chat.completions.create(model=MODEL, messages=said(PROMPT), tools=[strict], max_tokens=8)
    assert got.choices[0].message.content
    assert not got.choices[0].message.tool_calls


@pytest.fixture(scope="module")
def switched() -> Iterator[Running]:
    """A server of a model whose template knows whether, and how hard, it is to think."""
    with serving() as server:
        server.service.preload(MODEL)
        llm = server.service.shared.loaded[MODEL].llm
        template = llm.metadata["tokenizer.chat_template"] + SWITCH + EFFORT
        llm.metadata["tokenizer.chat_template"] = template
        llm._chat_handlers[llm.chat_format] = Jinja2ChatFormatter(
            template, eos_token="", bos_token=""
        ).to_chat_handler()
        yield server


def test_the_template_is_told_whether_to_think(switched: Running) -> None:
    def openai(**more: Any) -> int:
        body = {"messages": said(PROMPT), "max_tokens": 1, **more}
        answer = httpx.post(f"{switched.url}/v1/chat/completions", json=body, timeout=60).json()
        return int(answer["usage"]["prompt_tokens"])

    def anthropic(**more: Any) -> int:
        body = {"model": MODEL, "messages": said(PROMPT), **more}
        answer = httpx.post(f"{switched.url}/v1/messages/count_tokens", json=body, timeout=60).json()
        return int(answer["input_tokens"])

    def ollama(**more: Any) -> int:
        body = {"model": MODEL, "messages": said(PROMPT), "stream": False, "options": {"num_predict": 1}, **more}
        return int(httpx.post(f"{switched.url}/api/chat", json=body, timeout=60).json()["prompt_eval_count"])

    plain = openai()
    no, low, high = openai(reasoning_effort="none"), openai(reasoning_effort="low"), openai(reasoning_effort="high")
    assert len({plain, no, low, high}) == 4
    assert anthropic(thinking={"type": "disabled"}) == ollama(think=False) == no
    assert anthropic(output_config={"effort": "high"}) == ollama(think="high") == high
    assert anthropic(thinking={"type": "disabled"}, output_config={"effort": "high"}) == no
    assert plain < anthropic(thinking={"type": "adaptive"}) == ollama(think=True) < no
    assert anthropic() == ollama() == plain


@pytest.mark.parametrize(
    ("path", "more", "message"),
    [
        ("/v1/chat/completions", {"reasoning_effort": "high"}, "reasoning_effort: 'high' cannot be used"),
        ("/v1/messages", {"max_tokens": 1, "thinking": {"type": "adaptive"}}, "thinking: True cannot be used"),
        (
            "/v1/messages",
            {"max_tokens": 1, "output_config": {"effort": "low"}},
            "output_config.effort: 'low' cannot be",
        ),
        ("/api/chat", {"think": True}, "think: True cannot be used: the model's chat template knows no thoughts"),
    ],
)
def test_a_template_that_knows_no_thoughts(server: Running, path: str, more: dict[str, Any], message: str) -> None:
    answer = httpx.post(f"{server.url}{path}", json={"model": MODEL, "messages": said(PROMPT), **more}, timeout=60)
    assert answer.status_code == 400
    assert message in answer.text


def test_texts_are_cut_where_that_is_asked_for(model_factory: Any) -> None:
    path = str(model_factory("qwen3moe", pooling=1)[0])
    with serving(models={"vectors": LocalModel("vectors", path, threads=1)}) as server:

        def embed(text: str, **more: Any) -> httpx.Response:
            body = {"model": "vectors", "input": text, **more}
            return httpx.post(f"{server.url}/api/embed", json=body, timeout=60)

        short = "a dog a dog a dog"
        long = short + " a dog" * 4000
        taken = embed(short).json()["prompt_eval_count"]
        assert embed(long).status_code == 400
        assert embed(long, truncate=False).status_code == 400
        cut = embed(long, truncate=True, options={"num_ctx": taken}).json()
        assert cut["prompt_eval_count"] <= taken
        assert np.allclose(cut["embeddings"], embed(short).json()["embeddings"], atol=1e-3)
        assert embed(short, options={"num_ctx": taken - 1}).status_code == 400
        [vector] = embed(short).json()["embeddings"]
        assert embed(short, dimensions=len(vector)).status_code == 200
        wrong = embed(short, dimensions=len(vector) - 1)
        assert (wrong.status_code, f"have {len(vector)}" in wrong.text) == (400, True)
