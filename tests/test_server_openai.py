"""OpenAI's own client gets from the server what the model gives alone."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from edgemoe import Llama
from serving import GREEDY, MODEL, PROMPT, Running, said

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"enum": [1, 2, 3]}},
    "required": ["name", "age"],
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "It rains?", "parameters": SCHEMA}}
ZONE = {"type": "object", "properties": {"zone": {"enum": ["here", "there"]}}, "required": ["zone"]}
TIME = {"type": "function", "function": {"name": "time", "parameters": ZONE}}


def expected(llm: Llama, text: str = PROMPT, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = llm.create_chat_completion(said(text), **(GREEDY | options))
    return found


def test_an_answer_is_that_of_the_model_alone(server: Running, llm: Llama) -> None:
    want = expected(llm)
    got = server.openai.chat.completions.create(model=MODEL, messages=said(PROMPT), **GREEDY)
    assert got.choices[0].message.content == want["choices"][0]["message"]["content"]
    assert got.choices[0].finish_reason == want["choices"][0]["finish_reason"] == "length"
    assert got.usage.prompt_tokens == want["usage"]["prompt_tokens"]
    assert got.usage.completion_tokens == want["usage"]["completion_tokens"] == 48
    assert (got.model, got.object, got.choices[0].message.role) == (MODEL, "chat.completion", "assistant")


def test_a_stream_is_the_same_answer_in_pieces(server: Running, llm: Llama) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(server.openai.chat.completions.create(model=MODEL, messages=said(PROMPT), **GREEDY, **options))
    want = expected(llm)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == want["choices"][0]["message"]["content"]
    assert len(chunks) > 20
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == want["usage"]["completion_tokens"]
    assert len({chunk.id for chunk in chunks}) == 1


def test_requests_at_the_same_time_are_answered_as_alone(server: Running, llm: Llama) -> None:
    """But where two tokens are almost equally likely: batches of another size round differently."""
    texts = [f"Tell me a story about a {what}." for what in ("dog", "red bird", "tree", "little cat", "house", "boat")]
    options: dict[str, Any] = GREEDY | {"logprobs": True, "top_logprobs": 2}
    with ThreadPoolExecutor(len(texts)) as threads:
        ask = server.openai.chat.completions.create
        got = list(threads.map(lambda text: ask(model=MODEL, messages=said(text), **options), texts))
    same = 0
    for text, answer in zip(texts, got, strict=True):
        want = expected(llm, text, **options)["choices"][0]["logprobs"]["content"]
        tokens = answer.choices[0].logprobs.content
        for mine, his in zip(want, tokens, strict=True):
            if mine["token"] != his.token:
                first, second = sorted((top["logprob"] for top in mine["top_logprobs"]), reverse=True)
                assert first - second < 0.1
                break
        else:
            same += 1
    assert same >= len(texts) // 2
    assert server.service.snapshot().models[0].stats.decode_tokens > 0


def test_a_conversation_goes_on_where_it_was(server: Running, llm: Llama) -> None:
    ask = server.openai.chat.completions.create
    first = ask(model=MODEL, messages=said(PROMPT), **GREEDY)
    messages = [*said(PROMPT), {"role": "assistant", "content": first.choices[0].message.content}, *said("And then?")]
    second = ask(model=MODEL, messages=messages, **GREEDY)
    before = first.usage.prompt_tokens
    assert second.usage.prompt_tokens_details.cached_tokens >= before
    assert second.usage.prompt_tokens > before + 48


def test_log_probabilities(server: Running, llm: Llama) -> None:
    options = GREEDY | {"logprobs": True, "top_logprobs": 3}
    got = server.openai.chat.completions.create(model=MODEL, messages=said(PROMPT), **options)
    want = expected(llm, **options)["choices"][0]["logprobs"]["content"]
    found = got.choices[0].logprobs.content
    assert [token.token for token in found] == [token["token"] for token in want]
    for mine, his in zip(want, found, strict=True):
        assert math.isclose(mine["logprob"], his.logprob, abs_tol=0.1)
        assert len(his.top_logprobs) == 3
        assert his.top_logprobs[0].token == his.token
        assert bytes(his.bytes).decode() == his.token


def test_stop_strings_end_an_answer(server: Running, llm: Llama) -> None:
    for stop in ([" little"], ["named", " little fish"], "zzz"):
        got = server.openai.chat.completions.create(model=MODEL, messages=said(PROMPT), stop=stop, **GREEDY)
        want = expected(llm, stop=stop)["choices"][0]
        assert got.choices[0].message.content == want["message"]["content"]
        assert got.choices[0].finish_reason == want["finish_reason"]


def test_stop_strings_are_held_back_in_streams(server: Running) -> None:
    options = GREEDY | {"stop": ["little fish"], "stream": True}
    chunks = list(server.openai.chat.completions.create(model=MODEL, messages=said(PROMPT), **options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "Once upon a time, there was a "
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_json_schemas_hold(server: Running) -> None:
    formats = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
    for temperature in (0.0, 1.5):
        got = server.openai.chat.completions.create(
            model=MODEL, messages=said("Who?"), response_format=formats, max_tokens=200, temperature=temperature, seed=7
        )
        found = json.loads(got.choices[0].message.content)
        assert set(found) == {"name", "age"}
        assert found["age"] in (1, 2, 3)
    assert server.service.snapshot().totals["schema.valid"] >= 2


def test_json_schemas_give_what_the_model_gives_alone(server: Running, llm: Llama) -> None:
    animal = {"type": "object", "properties": {"kind": {"enum": ["dog", "fish"]}}, "required": ["kind"]}
    wanted: dict[str, Any] = {"type": "json_object", "schema": {"type": "array", "items": animal, "minItems": 3}}
    want = expected(llm, response_format=wanted)
    got = server.openai.chat.completions.create(model=MODEL, messages=said(PROMPT), response_format=wanted, **GREEDY)
    assert got.choices[0].message.content == want["choices"][0]["message"]["content"]


def test_tools_that_are_named_are_called(server: Running) -> None:
    choice = {"type": "function", "function": {"name": "weather"}}
    options: dict[str, Any] = {"tools": [WEATHER, TIME], "temperature": 0.0, "max_tokens": 200}
    ask = server.openai.chat.completions.create
    got = ask(model=MODEL, messages=said(PROMPT), tool_choice=choice, **options).choices[0]
    assert got.finish_reason == "tool_calls"
    [call] = got.message.tool_calls
    assert call.function.name == "weather"
    assert set(json.loads(call.function.arguments)) == {"name", "age"}
    any_of_them = ask(model=MODEL, messages=said(PROMPT), tool_choice="required", **options).choices[0]
    assert any_of_them.message.tool_calls[0].function.name in ("weather", "time")


def test_tool_calls_in_streams(server: Running) -> None:
    choice = {"type": "function", "function": {"name": "weather"}}
    options = {"tools": [WEATHER], "tool_choice": choice, "temperature": 0.0, "max_tokens": 200, "stream": True}
    chunks = list(server.openai.chat.completions.create(model=MODEL, messages=said(PROMPT), **options))
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert calls[0].function.name == "weather"
    assert json.loads("".join(call.function.arguments for call in calls))
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_conversation_with_tool_results(server: Running) -> None:
    messages = [
        *said(PROMPT),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "time", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
    ]
    got = server.openai.chat.completions.create(model=MODEL, messages=messages, tools=[TIME], **GREEDY)
    assert got.choices[0].message.content


def test_several_choices(server: Running) -> None:
    got = server.openai.chat.completions.create(
        model=MODEL, messages=said(PROMPT), n=3, seed=1, temperature=1.5, max_tokens=24
    )
    assert [choice.index for choice in got.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in got.choices}) == 3
    assert got.usage.completion_tokens <= 3 * 24


def test_seeds_repeat_an_answer(server: Running) -> None:
    def ask(seed: int) -> str:
        got = server.openai.chat.completions.create(
            model=MODEL, messages=said(PROMPT), seed=seed, temperature=1.0, max_tokens=16
        )
        return got.choices[0].message.content

    assert ask(5) == ask(5)
    assert len({ask(seed) for seed in range(4)}) > 1


def test_completions(server: Running, llm: Llama) -> None:
    prompt = "Once upon a time there was a"
    want = llm.create_completion(prompt, **GREEDY)["choices"][0]["text"]
    got = server.openai.completions.create(model=MODEL, prompt=prompt, **GREEDY)
    assert got.choices[0].text == want
    tokens = llm.tokenize(prompt.encode(), add_bos=False)
    several = server.openai.completions.create(model=MODEL, prompt=[tokens, tokens], echo=False, logprobs=1, **GREEDY)
    assert [choice.text for choice in several.choices] == [want, want]
    assert "".join(several.choices[0].logprobs.tokens) == want
    streamed = server.openai.completions.create(model=MODEL, prompt=prompt, stream=True, echo=True, **GREEDY)
    assert "".join(chunk.choices[0].text for chunk in streamed) == prompt + want


def test_quality_of_one_request(server: Running) -> None:
    options = {"model": MODEL, "messages": said(PROMPT)} | GREEDY
    assert server.openai.chat.completions.create(**options, extra_body={"quality": "fast"}).choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="quality='nice' is unknown"):
        server.openai.chat.completions.create(**options, extra_body={"quality": "nice"})
    with pytest.raises(openai.BadRequestError, match="is of a whole model"):
        server.openai.chat.completions.create(**options, extra_body={"quality": "fixed:2"})


def test_models(server: Running) -> None:
    assert [model.id for model in server.openai.models.list()] == [MODEL]
    assert server.openai.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError, match=f"did you mean '{MODEL}'"):
        server.openai.models.retrieve("tinystory-moe")
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-5'") as caught:
        server.openai.chat.completions.create(model="gpt-5", messages=said(PROMPT))
    assert caught.value.code == "model_not_found"


def test_models_that_make_text_have_no_embeddings(server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="makes text, not embeddings"):
        server.openai.embeddings.create(model=MODEL, input="hello")


def test_a_prompt_that_does_not_fit_is_told_the_limit(server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match=r"the prompt has \d+ tokens, and the context holds 512") as caught:
        server.openai.chat.completions.create(model=MODEL, messages=said("word " * 600))
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("body", "said_of_it"),
    [
        (b"{", "the body is no JSON"),
        (b"[]", "dictionary"),
        (b"{}", "messages: Field required"),
        (b'{"messages": []}', "messages: List should have at least 1 item"),
        (b'{"messages": [{"role": "boss", "content": "x"}]}', "messages.0.role"),
        (b'{"messages": [{"role": "user", "content": 3}]}', "messages.0.content"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": "hot"}', "temperature"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}', "max_tokens"),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": 100}', "n: "),
        (
            b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
            "0.type: 'image_url' cannot be used",
        ),
        (
            b'{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_object", '
            b'"schema": {"$ref": "https://example.com/x"}}}',
            "only references inside it",
        ),
        (
            b'{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_object", '
            b'"schema": {"type": "nonsense"}}}',
            "the schema cannot be used",
        ),
    ],
)
def test_wrong_bodies_are_refused_in_the_words_of_the_api(server: Running, body: bytes, said_of_it: str) -> None:
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{server.url}/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert said_of_it in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", rb'{"prompt": "\ud800 x", "echo": true, "max_tokens": 2}'),
        ("/v1/completions", rb'{"prompt": ["x", "\udfff"], "max_tokens": 2}'),
        ("/v1/chat/completions", rb'{"messages": [{"role": "user", "content": "x \udc00"}], "max_tokens": 2}'),
        ("/v1/messages", rb'{"model": "", "max_tokens": 2, "messages": [{"role": "user", "content": "\ud800"}]}'),
        ("/api/generate", rb'{"model": "", "prompt": "\ud800", "options": {"num_predict": 2}}'),
    ],
)
def test_half_a_surrogate_pair_is_refused(server: Running, path: str, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{server.url}{path}", content=body, headers=headers, timeout=60)
    assert answer.status_code == 400
    assert "half of a surrogate pair" in answer.text
    whole = rb'{"prompt": "\ud83d\ude00", "echo": true, "max_tokens": 1}'
    got = httpx.post(f"{server.url}/v1/completions", content=whole, headers=headers, timeout=60)
    assert got.json()["choices"][0]["text"].startswith("\U0001f600")


def test_paths_that_there_are_not(server: Running) -> None:
    assert httpx.get(f"{server.url}/v1/nothing").json()["error"]["type"] == "not_found_error"
    assert httpx.get(f"{server.url}/v1/chat/completions").status_code == 405
    assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
