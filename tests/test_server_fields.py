"""Every field of the clients' requests is honoured, has no effect and needs none, or is refused: none is ignored.

The fields are those of the clients' own types. What a field that is honoured does is tested beside the API that has it;
here it is shown that its value is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from edgemoe.config import LocalModel
from edgemoe.server.fields import Accepted, Refused
from request_fields import ALL, APIS, FUNCTION, OPTIONS, TOOL, Api
from serving import MODEL, Running, serving

PICTURE = {"type": "image_url", "image_url": {"url": "data:"}}


def named(api: Api) -> str:
    return f"{api.path}{' options' if api is OPTIONS else ''}"


@pytest.fixture(scope="module")
def both(model_factory: Any) -> Iterator[Running]:
    """A server of a model that makes text, and of one that makes embeddings."""
    vectors = LocalModel("vectors", str(model_factory("qwen3moe", pooling=1)[0]), threads=1, memory="1GiB")
    text = LocalModel(MODEL, threads=1, memory="1GiB")
    with serving(models={MODEL: text, "vectors": vectors}, memory="4GiB") as running:
        yield running


def sent(server: Running, api: Api, name: str, value: Any) -> httpx.Response:
    """The answer to a request with this field."""
    more = {"options": {**api.body["options"], name: value}} if api is OPTIONS else {name: value}
    return httpx.post(f"{server.url}{api.path}", json={**api.body, **more}, timeout=60)


def message_of(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    return str(error if isinstance(error, str) else error["message"])


KINDS = ("honoured", "accepted", "refused")
CASES = [(api, kind, name) for api in ALL for kind in KINDS for name in getattr(api, kind)]


def marked(model: type[BaseModel], mark: type) -> set[str]:
    found = model.model_fields.items()
    return {name for name, field in found if any(isinstance(one, mark) for one in field.metadata)}


@pytest.mark.parametrize("api", ALL, ids=named)
def test_no_field_is_left_out(api: Api) -> None:
    listed = [*api.honoured, *api.accepted, *api.refused]
    assert len(listed) == len(set(listed))
    assert set(listed) == api.known | api.additions == set(api.model.model_fields)
    assert marked(api.model, Accepted) == set(api.accepted)
    assert marked(api.model, Refused) == set(api.refused)


@pytest.mark.parametrize(
    ("api", "kind", "name"), CASES, ids=lambda value: named(value) if isinstance(value, Api) else value
)
def test_fields_are_treated_as_listed(both: Running, api: Api, kind: str, name: str) -> None:
    if kind == "accepted":
        answer, plain = sent(both, api, name, api.accepted[name]), httpx.post(f"{both.url}{api.path}", json=api.body)
        assert answer.status_code == plain.status_code == 200
        assert said_by(answer) == said_by(plain)
        return
    taken, wrong = api.honoured[name] if kind == "honoured" else reversed(api.refused[name])
    if taken is not None:
        answer = sent(both, api, name, taken)
        assert answer.status_code == 200, answer.text
    answer = sent(both, api, name, wrong)
    if name == "model":
        assert (answer.status_code, "there is no model" in message_of(answer)) == (404, True)
        return
    assert answer.status_code == 400, answer.text
    assert name in message_of(answer)
    if kind == "refused":
        assert f"{name}: {wrong!r} cannot be used: " in message_of(answer)
        if isinstance(taken, bool):  # a number is none, though 0 equals False in Python
            assert sent(both, api, name, float(taken)).status_code == 400


def said_by(answer: httpx.Response) -> Any:
    """What an answer says, without what no two answers share."""
    found = answer.json()
    parts = ("choices", "content", "message", "response", "data", "input_tokens")
    return next(found[part] for part in parts if part in found)


@pytest.mark.parametrize("api", APIS, ids=named)
def test_unknown_fields_are_named(both: Running, api: Api) -> None:
    for name, value, hint in (("modle", "x" * 100, "did you mean 'model'?"), ("zzzz", 3, "leave it out")):
        answer = httpx.post(f"{both.url}{api.path}", json={**api.body, name: value})
        assert answer.status_code == 400
        begin, given, end = message_of(answer).partition(" was given, and there is no such field: ")
        assert (begin.rstrip("."), bool(given), end) == (f"{name}: {value!r}"[: len(name) + 59], True, hint)


def test_the_documentation_lists_them_all() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "server.md").read_text()
    for api in ALL:
        [row] = re.findall(rf"^\| `{named(api)}` \|(.*)\|(.*)\|(.*)\|$", text, re.MULTILINE)
        for cell, listed in zip(row, (api.honoured, api.accepted, api.refused), strict=True):
            assert sorted(re.findall(r"`(\w+)`", cell)) == sorted(listed), api.path


CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
RESULT = {"type": "tool_result", "tool_use_id": "1", "content": "noon"}


@pytest.mark.parametrize(
    ("path", "more", "message"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "x", "audio": {}}]}, "messages.0.audio: {} cannot be used"),
        (CHAT, {"messages": [{"role": "user", "content": [PICTURE]}]}, "messages.0.content.0.type: 'image_url' cannot"),
        (CHAT, {"messages": [{"role": "user", "content": "x", "nmae": "y"}]}, "messages.0.nmae: 'y' was given"),
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f", "x": 1}}]}, "tools.0.function.x: 1 was given"),
        (
            CHAT,
            {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools"}},
            "tool_choice.type: 'allowed_tools'",
        ),
        (CHAT, {"tools": [FUNCTION, FUNCTION]}, "tools: there are two of the name 'f'"),
        (CHAT, {"tools": [FUNCTION], "response_format": {"type": "json_object"}}, "tools: an answer cannot both"),
        (CHAT, {"response_format": {"type": "text", "schema": {}}}, "response_format.schema: the type 'text' has none"),
        (
            CHAT,
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation: True cannot be used",
        ),
        (MESSAGES, {"system": [{"type": "image", "source": {}}]}, "system.0.type: 'image' cannot be used"),
        (
            MESSAGES,
            {"messages": [{"role": "user", "content": [{"type": "document"}]}]},
            "messages.0.content.0: the",
        ),
        (MESSAGES, {"tools": [{**TOOL, "defer_loading": True}]}, "tools.0.defer_loading: True cannot be used"),
        (MESSAGES, {"tools": [{**TOOL, "input_examples": [{}]}]}, "tools.0.input_examples: [{}] cannot be used"),
        (MESSAGES, {"thinking": {"type": "adaptive", "display": "omitted"}}, "thinking.display: 'omitted' cannot be"),
        (
            MESSAGES,
            {"messages": [{"role": "user", "content": [{**RESULT, "x": 1}]}]},
            "messages.0.content.0.x: 1",
        ),
    ],
)
def test_parts_of_fields_are_not_ignored_either(both: Running, path: str, more: dict[str, Any], message: str) -> None:
    body = next(api.body for api in APIS if api.path == path)
    answer = httpx.post(f"{both.url}{path}", json={**body, **more})
    assert answer.status_code == 400
    assert message_of(answer).startswith(message)
