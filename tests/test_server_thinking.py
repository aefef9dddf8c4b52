"""What a model thinks before its answer is told apart, in the words of each API, for their own clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from assistants import HARD, answers
from cloud_servers import Server
from edgemoe import thinking
from edgemoe.server.requests import Piece
from edgemoe.server.thoughts import ThoughtReader
from edgemoe.server.tools import ToolReader
from serving import GREEDY, MODEL, PROMPT, Running, said, serving
from test_server_routed import routed

THOUGHT, ANSWER = "I wonder.\n\nA greeting?", "Hello there"
SAID = ("<thi", "nk>\nI wonder.", "\n\nA gree", "ting?\n</thi", "nk>\n\nHello", " there")


@pytest.fixture
def thinker(router_file: Path, tmp_path: Path) -> Iterator[Running]:
    """A server whose "auto" asks a model that thinks."""
    with Server(answers(*SAID)) as cloud, routed(router_file, tmp_path, cloud) as server:
        yield server


@pytest.fixture(scope="module")
def opened() -> Iterator[Running]:
    """A server whose model's template opens the thoughts, which a full stop ends: the model has learned no tags."""
    with pytest.MonkeyPatch.context() as patch, serving() as server:
        patch.setitem(thinking.TAGS, "<think>", ".")
        server.service.preload(MODEL)
        llm = server.service.shared.loaded[MODEL].llm
        template = llm.metadata["tokenizer.chat_template"] + "{{ ' <think>\n' }}"
        formatter = Jinja2ChatFormatter(template, eos_token="", bos_token="")
        llm._chat_handlers[llm.chat_format] = formatter.to_chat_handler()
        yield server


def test_openais_client(thinker: Running) -> None:
    asked: dict[str, Any] = {"model": "auto", "messages": said(HARD)}
    message = thinker.openai.chat.completions.create(**asked).choices[0].message
    assert (message.reasoning_content, message.content) == (THOUGHT, ANSWER)
    chunks = [chunk.choices[0].delta for chunk in thinker.openai.chat.completions.create(**asked, stream=True)]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in chunks) == THOUGHT
    assert "".join(delta.content or "" for delta in chunks) == ANSWER


def test_anthropics_client(thinker: Running) -> None:
    asked: dict[str, Any] = {"model": "auto", "messages": said(HARD), "max_tokens": 48}
    content = thinker.anthropic.messages.create(**asked).content
    assert [block.type for block in content] == ["thinking", "text"]
    assert (content[0].thinking, content[1].text) == (THOUGHT, ANSWER)
    with thinker.anthropic.messages.stream(**asked) as stream:
        events = list(stream)
        found = stream.get_final_message().content
    assert [getattr(block, block.type) for block in found] == [THOUGHT, ANSWER]
    assert "".join(event.thinking for event in events if event.type == "thinking") == THOUGHT
    again = [*said(HARD), {"role": "assistant", "content": content}, *said(HARD)]
    assert thinker.anthropic.messages.create(**(asked | {"messages": again})).content == content


def test_ollamas_client(thinker: Running) -> None:
    client = ollama.Client(thinker.url)
    message = client.chat("auto", said(HARD)).message
    assert (message.thinking, message.content) == (THOUGHT, ANSWER)
    parts = [part.message for part in client.chat("auto", said(HARD), stream=True)]
    assert "".join(part.thinking or "" for part in parts) == THOUGHT
    assert "".join(part.content or "" for part in parts) == ANSWER
    whole = client.generate("auto", HARD)
    assert (whole.thinking, whole.response) == (THOUGHT, ANSWER)


def test_thoughts_that_the_template_opens(opened: Running) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": said(PROMPT), **GREEDY}
    message = opened.openai.chat.completions.create(**asked).choices[0].message
    assert message.reasoning_content
    assert message.content
    assert "." not in message.reasoning_content
    chunks = [chunk.choices[0].delta for chunk in opened.openai.chat.completions.create(**asked, stream=True)]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in chunks) == message.reasoning_content
    assert "".join(delta.content or "" for delta in chunks) == message.content
    content = opened.anthropic.messages.create(
        model=MODEL, messages=said(PROMPT), max_tokens=48, extra_body={"temperature": 0}
    ).content
    assert [getattr(block, block.type) for block in content] == [message.reasoning_content, message.content]


def test_an_answer_that_is_cut_off_within_its_thoughts(opened: Running) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": said(PROMPT), **GREEDY, "max_tokens": 3}
    [choice] = opened.openai.chat.completions.create(**asked).choices
    assert (choice.finish_reason, choice.message.content) == ("length", "")
    assert choice.message.reasoning_content
    assert [chunk for chunk in opened.openai.chat.completions.create(**asked, stream=True)][-1].choices[0].finish_reason


def test_a_form_leaves_no_room_for_thoughts(opened: Running) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["yes.", "no."]}}}
    asked: dict[str, Any] = {"model": MODEL, "messages": said(PROMPT), **GREEDY, "response_format": form}
    message = opened.openai.chat.completions.create(**asked).choices[0].message
    assert message.content in ('"yes."', '"no."')
    assert not hasattr(message, "reasoning_content")


def test_texts_that_are_continued_are_left_alone(opened: Running) -> None:
    found = opened.openai.completions.create(model=MODEL, prompt="<think>Once upon a time", **GREEDY)
    assert "." in found.choices[0].text


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_calls_of_tools_behind_thoughts(size: int) -> None:
    text = '<thought>\n I call f. \n</thought>\n<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    pieces = [Piece(text[i : i + size]) for i in range(0, len(text), size)] + [Piece(finish_reason="stop")]
    readers = [ThoughtReader(None), ToolReader()]
    for reader in readers:
        pieces = [part for piece in pieces for part in reader.read(piece)]
    assert "".join(piece.thought for piece in pieces) == "I call f."
    assert [piece.tool_call.name for piece in pieces if piece.tool_call] == ["f"]
    assert not "".join(piece.text for piece in pieces).strip()
    assert pieces[-1].finish_reason == "tool_calls"
