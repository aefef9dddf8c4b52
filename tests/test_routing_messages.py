"""What is looked at before a conversation is sent: every text, number and key of it, and the bytes of files not."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterable
from typing import Any

import pytest

from edgemoe import EdgeMoEError
from edgemoe.routing.messages import last_prompt, messages_of, sent_texts, text_of, texts_in
from edgemoe.routing.privacy import find_personal_data

MAIL, CARD = "jane@example.com", 4111111111111111


def found(texts: Iterable[str]) -> set[str]:
    return {one.kind for text in texts for one in find_personal_data(text)}


def user(content: Any, **others: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **others}


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (user(MAIL), "email"),
        (user(f"data: {MAIL}"), "email"),
        (user([f"data: {MAIL}"]), "email"),
        (user([{"type": "text", "text": f"data:image/png;base64,{MAIL}"}]), "email"),
        (user([{"type": "tool_result", "content": f"data: {MAIL}"}]), "email"),
        (user([{"type": "tool_result", "content": [{"type": "text", "text": MAIL}]}]), "email"),
        (user([{"type": "text", "text": {"value": MAIL}}]), "email"),
        (user([{"type": "json", "json": {"card": CARD}}]), "card"),
        (user([{"type": "json", "json": {"card": float(CARD)}}]), "card"),
        (user([{"type": "json", "data": MAIL}]), "email"),
        (user([{"type": "json", "json": {MAIL: 1}}]), "email"),
        (user([{"type": MAIL}]), "email"),
        (user([{"type": "text", "text": "Hello", "data": str(CARD)}]), "card"),
        (user([CARD]), "card"),
        (user([{"type": "image_url", "image_url": {"url": f"data:text/plain,{MAIL}"}}]), "email"),
        (user([{"type": "image_url", "image_url": {"url": f"data:image/png;name={MAIL};base64,AAAA"}}]), "email"),
        (user([{"type": "image_url", "image_url": {"url": f"https://example.com/{MAIL}"}}]), "email"),
        (user([{"type": "file", "file": {"file_data": "AAAA", "filename": f"of {MAIL}"}}]), "email"),
        (user([{"type": "file", "file": {"file_data": f"mail {MAIL}"}}]), "email"),
        (user([{"type": "input_audio", "input_audio": {"data": MAIL}}]), "email"),
        (user("Hello", data=MAIL), "email"),
        (user("Hello", type=MAIL), "email"),
        (user("Hello", file_data=MAIL), "email"),
        (user("Hello", **{MAIL: 1}), "email"),
        (user("Hello", name=f"data: {MAIL}"), "email"),
        ({"role": MAIL, "content": "Hello"}, "email"),
        ({"role": "assistant", "tool_calls": [{"function": {"arguments": {"card": CARD}}}]}, "card"),
        ({"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": f'"{MAIL}"'}}]}, "email"),
        ({"role": "tool", "content": None, "result": {"text": "Name\nDE89 3704 0044 0532 0130 00"}}, "iban"),
    ],
)
def test_personal_data_in_any_place_of_a_message_is_found(message: dict[str, Any], kind: str) -> None:
    assert found(sent_texts(message)) == {kind}


@pytest.mark.parametrize(
    ("beside", "kind"),
    [
        ({"user": f"data: {MAIL}"}, "email"),
        ({"metadata": {"data": MAIL}}, "email"),
        ({"metadata": {"type": MAIL, "file_data": "x"}}, "email"),
        ({"metadata": {"card": CARD}}, "card"),
        ({"logit_bias": {MAIL: 1}}, "email"),
        ({"tools": [{"function": {"parameters": {"properties": {MAIL: {"type": "string"}}}}}]}, "email"),
        ({"stop": ("a", [MAIL])}, "email"),
    ],
)
def test_personal_data_in_any_setting_is_found(beside: dict[str, Any], kind: str) -> None:
    assert found(texts_in(beside)) == {kind}


def test_files_are_not_looked_at() -> None:
    """Bytes in base64 hold whatever digits they hold."""
    data = f"{CARD}" + base64.b64encode(random.Random(0).randbytes(9000)).decode()
    lines = base64.encodebytes(random.Random(1).randbytes(9000)).decode()
    for part in (
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}", "detail": "auto"}},
        {"type": "image_url", "image_url": {"url": f"data:image/svg+xml;charset=utf-8;base64,{lines}"}},
        {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
        {"type": "file", "file": {"file_data": lines, "filename": "report.pdf"}},
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{data}", "filename": "report.pdf"}},
    ):
        message = user([{"type": "text", "text": "What is this?"}, part])
        assert not found(sent_texts(message))
        assert sum(map(len, sent_texts(message))) < 300


def test_ordinary_tools_and_settings_do_not_alarm() -> None:
    fields = ("email", "phone", "card", "iban", "id", "password", "address", "date_of_birth", "passport", "ssn", "ip")
    properties: dict[str, Any] = {name: {"type": "string", "description": f"The {name}"} for name in fields}
    properties |= {"count": {"type": "integer", "minimum": 0, "maximum": 2147483647, "default": 10}}
    properties |= {"at": {"type": "string", "format": "date-time", "pattern": r"^\d{4}-\d{2}-\d{2}$"}}
    parameters = {"type": "object", "properties": properties, "required": [*fields], "additionalProperties": False}
    tool = {"type": "function", "function": {"name": "add_person", "parameters": parameters, "strict": True}}
    settings = {"temperature": 0.7, "top_p": 0.95, "max_tokens": 4096, "seed": 1234567890, "stop": ["\n\n"], "n": 1}
    others = {"logit_bias": {"50256": -100, "128009": 3.5}, "stream": True, "user": "7f9c24", "created": 1732399999}
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": parameters}}
    assert not found(texts_in({"tools": [tool], "tool_choice": "auto", "response_format": schema} | settings | others))
    call = {"id": "call_9pw2QxVJ1b", "type": "function", "function": {"name": "f", "arguments": '{"count": 12}'}}
    assert not found(sent_texts({"role": "assistant", "content": None, "tool_calls": [call]}))
    assert not found(sent_texts({"role": "tool", "tool_call_id": "call_9pw2QxVJ1b", "content": '{"id": 7}'}))


def test_the_router_reads_what_the_user_says_alone() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/cat", "width": 640}}
    asked = user([{"type": "text", "text": "What is this?"}, picture])
    assert last_prompt([user("Hello"), asked]) == "What is this?\nhttps://example.com/cat"
    assert text_of(user(("one", {"type": "text", "text": "two"}))) == "one\ntwo"


@pytest.mark.parametrize("content", [{"text": MAIL}, 7, True, b"Hello", {"Hello"}])
def test_a_content_of_another_type_is_refused(content: Any) -> None:
    with pytest.raises(EdgeMoEError, match=f"the content of a message is a text, .* no {type(content).__name__}"):
        messages_of([user("Hello"), user(content)])


@pytest.mark.parametrize("message", ["Hello", None, 7, ["role", "user"]])
def test_what_is_no_message_is_refused(message: Any) -> None:
    with pytest.raises(EdgeMoEError, match=f"a message is an object like .*, no {type(message).__name__}"):
        messages_of([user("Hello"), message])


def test_a_conversation_may_come_once() -> None:
    said = [user("Hello"), user(None), user(())]
    messages: Any = iter(said)
    assert messages_of(messages) == said
    assert messages_of("Hello") == [user("Hello")]
