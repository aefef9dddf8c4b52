"""What is private never leaves: a server on loopback counts every connection, whatever the configuration asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistants import EASY, GREEDY, HARD, alone, assistant, endpoint
from cloud_servers import Server, fine, without_proxies
from edgemoe import Assistant
from edgemoe.assistant.discretion import PrivateConversations
from edgemoe.config import Condition, Rule
from routers import HARMFUL_PROMPT

EAGER = {
    "threshold": 0.0,
    "escalate": "auto",
    "confidence": 1.0,
    "verify": True,
    "rules": [Rule("all to the cloud", {"strong": Condition()}, "cloud")],
}
PERSONAL = [
    "I am jane@example.com.",
    "My card is 4111-1111-1111-1111.",
    "Pay to DE89 3704 0044 0532 0130 00.",
    "Call +49 171 2345678.",
    "My SSN is 123-45-6789.",
    "Use AKIAIOSFODNN7EXAMPLE.",
    "ｊａｎｅ＠ｍａｉｌ．ｃｏｍ",
    "ja\u200bne@mail.com",
]


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def says(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    without_proxies(monkeypatch)
    with Server(fine) as server:
        yield server


def reply(here: Assistant, prompt: Any, **options: Any) -> str:
    answer = here.reply(prompt, **(GREEDY | options))
    found = "".join(answer)
    if answer.decision.route == "local":
        assert answer.decision.private
        assert answer.answered_by == ["small"]
        assert answer.confidence is None
    return found


def test_the_same_prompts_do_leave_when_nothing_is_private(router_file: Path, tmp_path: Path, server: Server) -> None:
    """Else the tests below would prove nothing."""
    with assistant(router_file, tmp_path, endpoint(server), **EAGER) as here:
        for prompt in (EASY, HARD, [user(EASY), says("Once."), user(HARD)]):
            assert reply(here, prompt) == "Hello you."
    assert len(server.requests) == 3
    with assistant(router_file, tmp_path, endpoint(server), **(EAGER | {"rules": [], "threshold": 1.0})) as here:
        assert "".join(here.reply(EASY, **GREEDY)) == "Hello you."  # escalated
    assert len(server.requests) == 4


def test_personal_data_stays(router_file: Path, tmp_path: Path, server: Server) -> None:
    with assistant(router_file, tmp_path, endpoint(server), **EAGER) as here:
        for data in PERSONAL:
            assert reply(here, f"{HARD} {data}")
            assert reply(here, [user(f"{EASY} {data}"), says("Yes."), user(HARD)])
            assert reply(here, [{"role": "system", "content": data}, user(HARD)])
            assert reply(here, [user(HARD), says(f"It is {data}"), user(HARD)])
            assert reply(here, [user([{"type": "text", "text": f"{HARD} {data}"}])])
            assert reply(here, HARD, stop=[data])  # which is sent, too
    assert not server.visits


def test_what_was_asked_to_stay_stays(router_file: Path, tmp_path: Path, server: Server) -> None:
    with assistant(router_file, tmp_path, endpoint(server), **EAGER) as here:
        assert reply(here, HARD, private=True)
        assert reply(here, HARD, local_only=True)
    with assistant(router_file, tmp_path, endpoint(server), private=True, **EAGER) as here:
        assert reply(here, HARD) == alone(HARD)
        assert "".join(here.reply(HARMFUL_PROMPT, **GREEDY))
    assert not server.visits


def test_a_private_conversation_stays_private(router_file: Path, tmp_path: Path, server: Server) -> None:
    """Also when the caller says nothing of it any more."""
    with assistant(router_file, tmp_path, endpoint(server), **EAGER) as here:
        for known in ({"private": True}, {"local_only": True}):
            opening = [user(f"{EASY} {known}")]
            first = reply(here, opening, **known)
            second = [*opening, says(first), user(HARD)]
            answer = reply(here, second)
            third = [*second, says(f"  {answer}\n"), user(EASY)]
            assert reply(here, third)
            assert reply(here, [{"role": "system", "content": "Be brief."}, *third])
        assert not server.visits
        assert "".join(here.reply([user(HARD)], **GREEDY)) == "Hello you."  # another conversation
        assert len(server.visits) == 1


def test_an_answer_that_was_left_early_is_remembered(router_file: Path, tmp_path: Path, server: Server) -> None:
    with assistant(router_file, tmp_path, endpoint(server), **EAGER) as here:
        with here.reply(EASY, private=True, **GREEDY) as answer:
            next(answer)
            next(answer)
        assert reply(here, [user(EASY), says(answer.text), user(HARD)])
    assert not server.visits


def test_a_decision_for_the_cloud_is_checked_again(router_file: Path, tmp_path: Path, server: Server) -> None:
    """If the policy were wrong, what asks the cloud would still refuse."""
    import dataclasses

    with assistant(router_file, tmp_path, endpoint(server), **EAGER) as here:
        answer = here.reply(HARD, **GREEDY)
        answer.decision = dataclasses.replace(answer.decision, private=True)
        with pytest.raises(AssertionError, match="private"):
            next(answer)
    assert not server.visits


def test_conversations_are_told_apart() -> None:
    known = PrivateConversations()
    known.add([user("a"), says("b"), user("c")], "d")
    assert known.continues([user("a"), says("b"), user("c"), says("d"), user("e")])
    assert known.continues([{"role": "system", "content": "s"}, user("a"), says(" b "), user("c\n"), says("d")])
    for other in ([user("a")], [user("a"), says("b"), user("c")], [user("a"), says("b"), user("x"), says("d")], []):
        assert not known.continues(other)
    assert not known.continues([user("a b"), user("c"), says("d")])
