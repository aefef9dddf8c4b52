"""Feedback: what is said of answers changes who gives the next ones, survives, and can be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from assistants import EASY, HARD, assistant, endpoint
from cloud_servers import Server, fine, without_proxies
from edgemoe import Assistant, EdgeMoEError, WriteError
from edgemoe.cli import cli
from edgemoe.config import Budget
from routers import HARMFUL_PROMPT

SHORT: dict[str, Any] = {"temperature": 0.0, "max_tokens": 4}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    without_proxies(monkeypatch)
    with Server(fine) as server:
        yield server


def judge(here: Assistant, prompt: str, *, good: bool) -> str:
    answer = here.reply(prompt, **SHORT)
    "".join(answer)
    return here.feedback(answer, good)


def test_bad_local_answers_send_such_prompts_to_the_cloud(router_file: Path, tmp_path: Path, server: Server) -> None:
    options: dict[str, Any] = {"threshold": 0.1, "escalate": "never"}
    with assistant(router_file, tmp_path, endpoint(server), **options) as here:
        assert here.decide(EASY).route == "local"
        before = here.decide(EASY).strong
        said = judge(here, EASY, good=False)
        assert said.startswith("1 rated")
        for _ in range(20):
            judge(here, EASY, good=False)
            if here.decide(EASY).route == "cloud":
                break
        found = here.decide(EASY)
        assert found.route == "cloud"
        assert found.strong is not None
        assert before is not None
        assert found.strong > before
    with assistant(router_file, tmp_path, endpoint(server), **options) as later:  # another process would do the same
        assert later.decide(EASY).route == "cloud"
        assert later.decide(EASY, local_only=True).route == "local"
    with assistant(router_file, tmp_path, endpoint(server), feedback=False, **options) as other:
        assert other.decide(EASY).route == "local"


def test_good_local_answers_keep_such_prompts_here(router_file: Path, tmp_path: Path, server: Server) -> None:
    with assistant(router_file, tmp_path, endpoint(server), threshold=0.9, escalate="never") as here:
        assert here.decide(HARD).route == "cloud"
        for _ in range(60):
            answer = here.reply(HARD, local_only=True, **SHORT)
            "".join(answer)
            here.feedback(answer, good=True)
            if here.decide(HARD).route == "local":
                break
        assert here.decide(HARD).route == "local"
    (tmp_path / "config.toml").write_text(f'router = "{router_file}"\nstate = "{tmp_path}"\n')
    for message in ("removed", "nothing"):
        done = CliRunner().invoke(cli, ["route", "feedback", "reset", "--config", str(tmp_path / "config.toml")])
        assert (done.exit_code, message in done.output) == (0, True)
    with assistant(router_file, tmp_path, endpoint(server), threshold=0.9) as here:
        assert here.decide(HARD).route == "cloud"


def test_only_answers_are_judged_and_only_once(router_file: Path, tmp_path: Path, server: Server) -> None:
    with assistant(router_file, tmp_path, endpoint(server)) as here:
        answer = here.reply(EASY, **SHORT)
        with pytest.raises(EdgeMoEError, match="no answer"):
            here.feedback(answer, good=True)
        "".join(answer)
        here.feedback(answer, good=True)
        with pytest.raises(EdgeMoEError, match="already"):
            here.feedback(answer, good=False)
        refusal = here.reply(HARMFUL_PROMPT)
        "".join(refusal)
        with pytest.raises(EdgeMoEError, match="no answer"):
            here.feedback(refusal, good=False)
    with (
        assistant(router_file, tmp_path, feedback=False) as here,
        pytest.raises(EdgeMoEError, match="feedback = false"),
    ):
        judge(here, EASY, good=True)


def test_a_damaged_state_is_told_and_not_used(router_file: Path, tmp_path: Path, server: Server) -> None:
    with assistant(router_file, tmp_path, endpoint(server)) as here:
        judge(here, EASY, good=True)
        path = here.config.learned
    path.write_bytes(path.read_bytes()[:-7])
    with assistant(router_file, tmp_path, endpoint(server)) as here:
        answer = here.reply(HARD, **SHORT)
        assert answer.decision.route == "cloud"
        assert "reset" in answer.notes[0]
        "".join(answer)
        assert not here.reply(HARD, **SHORT).notes
        with pytest.raises(EdgeMoEError, match="damaged"):
            here.feedback(answer, good=True)


def test_a_budget_and_a_number_of_prompts_set_the_price(router_file: Path, tmp_path: Path, server: Server) -> None:
    """With money for every prompt all go to the cloud where it is better; with money for few, few do."""
    cheap = endpoint(server, input_price=1.0, output_price=10.0)  # a prompt costs about 0.003
    for per_day, least, most in ((10.0, 20, 20), (0.05, 0, 8)):
        state = tmp_path / str(per_day)
        options: dict[str, Any] = {"budget": Budget(per_day), "prompts_per_day": 100.0, "escalate": "never"}
        with assistant(router_file, state, cheap, **options) as here:
            assert here.reply(HARD).decision.rule == "threshold"
            judge(here, HARD, good=True)
            decisions = [here.reply(f"{HARD} {i}").decision for i in range(80)]
            assert {d.rule for d in decisions} == {"feedback"}
            assert least <= sum(d.route == "cloud" for d in decisions[60:]) <= most
            assert "worth the price" in decisions[-1].reason


def test_connections_are_closed_where_nothing_can_be_saved(router_file: Path, tmp_path: Path, server: Server) -> None:
    options: dict[str, Any] = {"threshold": 0.0, "budget": Budget(1000.0), "prompts_per_day": 10.0}
    lock = tmp_path / "feedback.msgpack.lock"
    with assistant(router_file, tmp_path, endpoint(server), **options) as here:
        judge(here, HARD, good=True)
        "".join(here.reply(HARD, **SHORT))  # which is to be saved
        big = here.decider.clouds["big"]
        assert big._connections is not None
        lock.unlink()
        lock.mkdir()
        with pytest.raises(WriteError, match="lock cannot be made"):
            here.close()
        assert big._connections is None
        lock.rmdir()
