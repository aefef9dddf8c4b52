"""Anthropic's own client gets from the server what the model gives alone."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import pytest

from serving import MODEL, PROMPT, Running, alone, said

GREEDY: dict[str, Any] = {"max_tokens": 48, "extra_body": {"temperature": 0.0}}
ALONE: dict[str, Any] = {"max_tokens": 48, "temperature": 0.0}
COLOUR = {
    "name": "colour",
    "description": "Paints.",
    "input_schema": {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]},
}
FORCED = {"type": "tool", "name": "colour"}


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """The answer to PROMPT with a system prompt."""
    messages = [{"role": "system", "content": "Be kind."}, *said(PROMPT)]
    with alone() as llm:
        found: dict[str, Any] = llm.create_chat_completion(messages, **ALONE)
        return found


def test_an_answer_is_that_of_the_model_alone(server: Running, expected: dict[str, Any]) -> None:
    got = server.anthropic.messages.create(model=MODEL, system="Be kind.", messages=said(PROMPT), **GREEDY)
    [content] = got.content
    assert content.text == expected["choices"][0]["message"]["content"]
    assert (got.stop_reason, got.stop_sequence) == ("max_tokens", None)
    assert got.usage.input_tokens == expected["usage"]["prompt_tokens"]
    assert got.usage.output_tokens == expected["usage"]["completion_tokens"]
    assert (got.model, got.role, got.type) == (MODEL, "assistant", "message")


def test_contents_in_parts_are_one_text(server: Running, expected: dict[str, Any]) -> None:
    parts = [{"type": "text", "text": PROMPT[:9]}, {"type": "text", "text": PROMPT[9:]}]
    got = server.anthropic.messages.create(
        model=MODEL,
        system=[{"type": "text", "text": "Be kind."}],
        messages=[{"role": "user", "content": parts}],
        **GREEDY,
    )
    assert got.content[0].text == expected["choices"][0]["message"]["content"]


def test_a_stream_is_the_same_answer_in_pieces(server: Running, expected: dict[str, Any]) -> None:
    kinds = []
    with server.anthropic.messages.stream(model=MODEL, system="Be kind.", messages=said(PROMPT), **GREEDY) as stream:
        for event in stream:
            kinds.append(event.type)
        final = stream.get_final_message()
    assert final.content[0].text == expected["choices"][0]["message"]["content"]
    assert final.stop_reason == "max_tokens"
    assert final.usage.output_tokens == expected["usage"]["completion_tokens"]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert kinds.count("content_block_delta") > 20


def test_stop_sequences(server: Running) -> None:
    options = GREEDY | {"stop_sequences": ["zzz", " little"]}
    got = server.anthropic.messages.create(model=MODEL, messages=said(PROMPT), **options)
    assert (got.stop_reason, got.stop_sequence) == ("stop_sequence", " little")
    assert got.content[0].text == "Once upon a time, there was a"


def test_tools(server: Running) -> None:
    options = GREEDY | {"tools": [COLOUR], "tool_choice": FORCED}
    got = server.anthropic.messages.create(model=MODEL, messages=said(PROMPT), **options)
    [use] = got.content
    assert (use.type, use.name, got.stop_reason) == ("tool_use", "colour", "tool_use")
    assert use.input["colour"] in ("red", "blue")
    with server.anthropic.messages.stream(model=MODEL, messages=said(PROMPT), **options) as stream:
        [again] = stream.get_final_message().content
    assert again.input == use.input
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "done"}]}
    messages = [
        *said(PROMPT),
        {"role": "assistant", "content": [use.model_dump()]},
        {"role": "user", "content": [result, {"type": "text", "text": "And now?"}]},
    ]
    after = server.anthropic.messages.create(model=MODEL, messages=messages, tools=[COLOUR], **GREEDY)
    assert after.content


def test_json_schemas_hold(server: Running) -> None:
    form = {"type": "json_schema", "schema": COLOUR["input_schema"]}
    got = server.anthropic.messages.create(model=MODEL, messages=said(PROMPT), output_config={"format": form}, **GREEDY)
    assert json.loads(got.content[0].text)["colour"] in ("red", "blue")


def test_tokens_are_counted_as_they_are_used(server: Running, expected: dict[str, Any]) -> None:
    count = server.anthropic.messages.count_tokens(model=MODEL, system="Be kind.", messages=said(PROMPT))
    assert count.input_tokens == expected["usage"]["prompt_tokens"]
    assert (
        server.anthropic.messages.count_tokens(model=MODEL, messages=said(PROMPT), tools=[COLOUR]).input_tokens
        > 2 * count.input_tokens
    )


def test_errors_are_in_the_words_of_the_api(server: Running) -> None:
    ask = server.anthropic.messages.create
    with pytest.raises(anthropic.NotFoundError) as unknown:
        ask(model="claude", messages=said(PROMPT), **GREEDY)
    assert unknown.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError, match="the context holds 512"):
        ask(model=MODEL, messages=said("word " * 600), **GREEDY)
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
    with pytest.raises(anthropic.BadRequestError, match="messages.0.content.0: the model reads text"):
        ask(model=MODEL, messages=[{"role": "user", "content": [picture]}], **GREEDY)
    with pytest.raises(anthropic.BadRequestError, match="no tool 'paint'"):
        ask(model=MODEL, messages=said("x"), tools=[COLOUR], tool_choice=FORCED | {"name": "paint"}, **GREEDY)
    answer = httpx.post(f"{server.url}/v1/messages", json={"model": MODEL, "messages": said("x")})
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["message"] == "max_tokens: Field required"
    broken = httpx.post(f"{server.url}/v1/messages", content=b"{", headers={"content-type": "application/json"})
    assert "no JSON" in json.dumps(broken.json()["error"])
