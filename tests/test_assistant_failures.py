"""When a cloud fails, and when a local answer looks unsure: what came is kept, and every answer is complete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistants import EASY, GREEDY, HARD, alone, answers, assistant, endpoint
from cloud_servers import (
    EVENT_STREAM,
    Server,
    Visit,
    event,
    fine,
    free_port,
    hangs,
    hangs_after_head,
    hangs_up,
    says,
    without_proxies,
)
from edgemoe import Assistant


@pytest.fixture(autouse=True)
def on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)


def text(answer: Iterator[str]) -> str:
    return "".join(answer)


# A cloud that fails


def cut(visit: Visit) -> None:
    """Half of an answer, of a length that was announced as longer."""
    visit.answer(event("Once upon a time, there was") + event(" a"), headers=EVENT_STREAM + "Content-Length: 9999\r\n")


FAILURES: dict[str, Any] = {
    "hangs up": hangs_up,
    "hangs": hangs,
    "hangs behind its head": hangs_after_head,
    "500": lambda visit: visit.answer("oh", "500 Internal Server Error"),
    "429": lambda visit: visit.answer("slow down", "429 Too Many Requests"),
    "401": lambda visit: visit.answer("who?", "401 Unauthorized"),
    "no stream": lambda visit: visit.answer("<html>", headers="Content-Type: text/html\r\n"),
    "no JSON": says("data: {nonsense\n\n"),
    "redirects": lambda visit: visit.answer("", "302 Found", "Location: http://example.com/\r\n"),
}


MAY_BE_PAID = ("hangs", "hangs behind its head", "no JSON")
"""The server has the prompt, and has not said that it does not answer it."""


@pytest.mark.parametrize("name", FAILURES)
def test_before_its_first_token_the_local_model_answers(router_file: Path, tmp_path: Path, name: str) -> None:
    told: list[str] = []
    with Server(FAILURES[name]) as server, assistant(router_file, tmp_path, endpoint(server)) as here:
        here._on_note = told.append
        answer = here.reply(HARD, **GREEDY)
        assert text(answer) == alone(HARD)
        assert answer.answered_by == ["small"]
        assert told == answer.notes
        [note] = told
        assert note.startswith("big failed (")
        assert note.endswith("small answers on this machine")
        assert (answer.cost > 0) is (name in MAY_BE_PAID)


def test_a_port_that_nobody_listens_on(router_file: Path, tmp_path: Path) -> None:
    with assistant(router_file, tmp_path, endpoint(f"http://127.0.0.1:{free_port()}/v1")) as here:
        answer = here.reply(HARD, **GREEDY)
        assert text(answer) == alone(HARD)
        assert "cannot be reached" in answer.notes[0]


def test_in_the_middle_what_came_is_kept_and_the_rest_is_local(router_file: Path, tmp_path: Path) -> None:
    with Server(cut) as server, assistant(router_file, tmp_path, endpoint(server)) as here:
        answer = here.reply(HARD, temperature=0.0, max_tokens=40)
        whole = text(answer)
        came = "Once upon a time, there was a"
        assert whole.startswith(came)
        begun = len(_tokens(here, came))
        assert whole == came + alone(HARD, came, max_tokens=40 - begun)
        assert answer.answered_by == ["big", "small"]
        assert "small goes on on this machine" in answer.notes[0]
        assert answer.cost == pytest.approx(here.account.spent())
        assert answer.cost > 0


def _tokens(here: Assistant, begun: str) -> list[int]:
    tokens: list[int] = here.models.loaded["small"].tokenize(begun.encode(), add_bos=False)
    return tokens


# Unsure answers


def test_an_unsure_answer_escalates_by_itself(router_file: Path, tmp_path: Path) -> None:
    with (
        Server(answers("From", " the cloud")) as server,
        assistant(router_file, tmp_path, endpoint(server), escalate="auto", confidence=1.0) as here,
    ):
        answer = here.reply(EASY, **GREEDY)
        assert answer.decision.route == "local"
        assert text(answer) == "From the cloud"
        assert answer.answered_by == ["big"]
        assert answer.confidence is not None
        assert 0 < answer.confidence < 1
        assert "small is unsure" in answer.notes[0]
        assert answer.cost == pytest.approx((100 * 1000 + 50 * 2000) / 1e6)


def test_a_sure_answer_does_not_and_is_the_same(router_file: Path, tmp_path: Path) -> None:
    with (
        Server(fine) as server,
        assistant(router_file, tmp_path, endpoint(server), escalate="auto", confidence=0.0) as here,
    ):
        answer = here.reply(EASY, **GREEDY)
        pieces = list(answer)
        assert "".join(pieces) == alone(EASY)
        assert len(pieces[0]) > len(pieces[-1])  # the first one was held back
        assert answer.confidence is not None
        assert not server.visits


@pytest.mark.parametrize(("says_yes", "by"), [(True, "big"), (False, "small")])
def test_asking_first(router_file: Path, tmp_path: Path, says_yes: bool, by: str) -> None:
    asked: list[tuple[str | None, float, float]] = []

    def ask(decision: Any, confidence: float) -> bool:
        asked.append((decision.target, decision.cost, confidence))
        return says_yes

    with (
        Server(fine) as server,
        assistant(router_file, tmp_path, endpoint(server), ask=ask, confidence=1.0) as here,
    ):
        answer = here.reply(EASY, **GREEDY)
        assert text(answer) == ("Hello you." if says_yes else alone(EASY))
        assert answer.answered_by == [by]
        [(target, cost, confidence)] = asked
        assert (target, confidence) == ("big", answer.confidence)
        assert cost > 0
        assert len(server.visits) == says_yes


def test_never_and_nobody_to_ask(router_file: Path, tmp_path: Path) -> None:
    with Server(fine) as server:
        for options in ({"escalate": "never"}, {"escalate": "ask"}):
            with assistant(router_file, tmp_path, endpoint(server), confidence=1.0, **options) as here:
                answer = here.reply(EASY, **GREEDY)
                assert text(answer) == alone(EASY)
                assert answer.confidence is None
        assert not server.visits


def test_a_cloud_that_fails_gives_the_unsure_answer_back(router_file: Path, tmp_path: Path) -> None:
    with (
        Server(hangs_up) as server,
        assistant(router_file, tmp_path, endpoint(server), escalate="auto", confidence=1.0) as here,
    ):
        for most in (24, 8):  # longer than what was held back, and shorter
            answer = here.reply(EASY, **(GREEDY | {"max_tokens": most}))
            assert text(answer) == alone(EASY, max_tokens=most)
            assert answer.answered_by == ["small"]
            assert answer.finish_reason == "length"
            assert len(answer.notes) == 2


def test_the_model_is_asked_whether_its_answer_is_right(router_file: Path, tmp_path: Path) -> None:
    with Server(fine) as server:
        for confidence, expected in ((1.0, "Hello you."), (0.0, alone(EASY))):
            options = {"escalate": "auto", "verify": True, "confidence": confidence}
            with assistant(router_file, tmp_path, endpoint(server), **options) as here:
                answer = here.reply(EASY, **GREEDY)
                pieces = list(answer)
                assert "".join(pieces) == expected
                assert answer.confidence is not None
                assert 0 < answer.confidence < 1
                assert len([p for p in pieces if p]) == (1 if confidence == 0 else 2)
        assert len(server.visits) == 1
