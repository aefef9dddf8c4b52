"""Conversations: what the model is given, and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from edgemoe.chat.printable import printable
from edgemoe.chat.session import ChatSession
from edgemoe.conversation import prompt_tokens, use_own_template
from edgemoe.default_model import default_model_path
from edgemoe.errors import EdgeMoEError
from edgemoe.llama import Llama

REQUESTS = ("Tell me a story about a fish.", "And now one about a brave mouse.", "Thank you!", "Who are you?", "Hello.")


@pytest.fixture(scope="module")
def llm() -> Iterator[Llama]:
    with closing(Llama(default_model_path(), memory=None, n_ctx=512)) as model:
        use_own_template(model)
        yield model


class FakeLlama:
    """Answers with given pieces; a prompt has one token for each letter of the messages."""

    chat_format = "fake"

    def __init__(self, pieces: list[str | BaseException], n_ctx: int = 100):
        self._n_ctx = n_ctx
        self.pieces = pieces
        self.n_tokens = 0
        self.seen: list[list[dict[str, str]]] = []
        self._chat_handlers = {"fake": self._handle}

    @property
    def chat_handler(self) -> None:
        return None

    def _handle(self, llama: Any, messages: list[dict[str, str]], **_: Any) -> Any:
        return llama.create_completion(prompt=[0] * sum(len(m["content"]) for m in messages))

    def n_ctx(self) -> int:
        return self._n_ctx

    def stats(self) -> None:
        """Nobody looks at them."""

    def create_chat_completion(self, messages: list[dict[str, str]], stream: bool, **_: Any) -> Iterator[Any]:
        self.seen.append(messages)
        for piece in self.pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield {"choices": [{"delta": {"content": piece}, "finish_reason": None}]}
        yield {"choices": [{"delta": {}, "finish_reason": "stop"}]}


def roles(session: ChatSession) -> list[str]:
    return [message["role"] for message in session.messages]


def test_prompt_is_the_one_that_the_model_evaluates(llm: Llama) -> None:
    messages = [{"role": "user", "content": REQUESTS[0]}]
    tokens = prompt_tokens(llm, messages)
    assert llm.detokenize(tokens, special=True).decode() == (
        f"<|im_start|>user\n{REQUESTS[0]}<|im_end|>\n<|im_start|>assistant\n"
    )
    answer = llm.create_chat_completion(messages, max_tokens=1)
    assert answer["usage"]["prompt_tokens"] == len(tokens)


def test_template_that_refuses_is_an_error(llm: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    refusing = Jinja2ChatFormatter("{{ raise_exception('no system role') }}", eos_token="", bos_token="")
    monkeypatch.setitem(llm._chat_handlers, llm.chat_format, refusing.to_chat_handler())
    with pytest.raises(EdgeMoEError, match="no system role"):
        list(ChatSession(llm).reply("Hello."))


def test_ten_turns_stay_in_the_context(llm: Llama) -> None:
    notices: list[None] = []
    session = ChatSession(llm, on_forget=lambda: notices.append(None))
    for turn in range(10):
        answer = "".join(session.reply(REQUESTS[turn % len(REQUESTS)], temperature=0.0, max_tokens=120))
        assert answer
        assert session.messages[-2:] == [
            {"role": "user", "content": REQUESTS[turn % len(REQUESTS)]},
            {"role": "assistant", "content": answer},
        ]
        assert session.prompt_tokens + session.completion_tokens <= llm.n_ctx()
        assert 0 < session.completion_tokens <= 120
    assert roles(session) == ["user", "assistant"] * (len(session.messages) // 2)
    assert session.turns_forgotten > 0
    assert len(notices) == 1


def test_ten_turns_without_a_limit(llm: Llama) -> None:
    session = ChatSession(llm, system="You tell stories.")
    for turn in range(10):
        list(session.reply(REQUESTS[turn % 2], temperature=0.7, seed=turn))
        assert session.messages[0] == {"role": "system", "content": "You tell stories."}
        assert session.prompt_tokens + session.completion_tokens <= llm.n_ctx()


def test_second_turn_evaluates_only_what_is_new(llm: Llama) -> None:
    session = ChatSession(llm)
    list(session.reply(REQUESTS[0], temperature=0.0, max_tokens=60))
    before = llm.stats()
    list(session.reply(REQUESTS[2], temperature=0.0, max_tokens=5))
    assert llm.stats().since(before).prompt_tokens < 40 < session.prompt_tokens


def test_completion_tokens_are_those_of_the_answer(llm: Llama) -> None:
    session = ChatSession(llm)
    list(session.reply(REQUESTS[2], temperature=0.0))
    assert session.finish_reason == "stop"
    whole = llm.create_chat_completion([{"role": "user", "content": REQUESTS[2]}], temperature=0.0)
    assert session.completion_tokens == whole["usage"]["completion_tokens"]
    used = session.prompt_tokens + session.completion_tokens
    assert ("context", f"{used} of {llm.n_ctx()} tokens in use") in session.describe()
    session.clear()
    assert ("context", f"0 of {llm.n_ctx()} tokens in use") in session.describe()
    list(session.reply(REQUESTS[0], temperature=0.0, max_tokens=7))
    assert (session.finish_reason, session.completion_tokens) == ("length", 7)


def test_oldest_turns_go_and_the_system_prompt_stays() -> None:
    model = FakeLlama(["b" * 20])
    session = ChatSession(model, system="s" * 10)
    for _ in range(5):
        list(session.reply("a" * 10))
    assert [len(m["content"]) for m in model.seen[1]] == [10, 10, 20, 10]
    assert [len(m["content"]) for m in model.seen[-1]] == [10, 10, 20, 10]
    assert session.turns_forgotten == 3
    session.clear()
    assert session.messages == [{"role": "system", "content": "s" * 10}]


def test_too_long_a_message_is_refused_and_costs_nothing() -> None:
    session = ChatSession(FakeLlama(["b"]))
    list(session.reply("a" * 30))
    before = list(session.messages)
    with pytest.raises(EdgeMoEError, match=r"95 tokens.*100"):
        list(session.reply("c" * 95))
    assert session.messages == before


def test_stopped_answer_stays_in_the_history() -> None:
    session = ChatSession(FakeLlama(["one ", "two ", "three"]))
    with closing(session.reply("count")) as pieces:
        assert next(pieces) == "one "
        assert next(pieces) == "two "
    assert session.messages[-1] == {"role": "assistant", "content": "one two "}
    assert session.finish_reason is None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EdgeMoEError("disk")])
def test_interrupted_answer_stays_and_an_unanswered_message_goes(error: BaseException) -> None:
    session = ChatSession(FakeLlama(["one ", error]))
    with pytest.raises(type(error)):
        list(session.reply("count"))
    assert roles(session) == ["user", "assistant"]
    session.llm.pieces = [error]
    with pytest.raises(type(error)):
        list(session.reply("again"))
    assert roles(session) == ["user", "assistant"]


def test_what_was_left_out_belongs_to_the_conversation() -> None:
    session = ChatSession(FakeLlama(["b" * 20]), system="s" * 10)
    for i in range(5):
        list(session.reply(str(i) * 10))
    assert session.turns_forgotten == 3
    assert [m["content"][0] for m in session.transcript] == [*"s0b1b2b3b4b"]
    assert [m["content"][0] for m in session.take_back()] == ["4", "b"]
    assert [m["content"][0] for m in session.transcript] == [*"s0b1b2b3b"]
    list(session.reply("5" * 10))
    assert [m["content"][0] for m in session.llm.seen[-1]] == [*"s3b5"]


def test_system_prompt_changes_and_goes() -> None:
    session = ChatSession(FakeLlama(["b"]))
    list(session.reply("a"))
    session.set_system("Be kind.")
    list(session.reply("c"))
    assert [m["content"] for m in session.llm.seen[-1]] == ["Be kind.", "a", "b", "c"]
    session.set_system(None)
    assert session.system is None
    with pytest.raises(EdgeMoEError, match="nothing was said"):
        ChatSession(FakeLlama([]), system="Be kind.").take_back()


def test_output_cannot_drive_the_terminal() -> None:
    assert printable("a\x1b[2Jb\tc\nd\x9b\x07é") == "a[2Jb\tc\ndé"
