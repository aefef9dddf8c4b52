"""Money: what cloud answers may cost, however many are under way and in how many processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistants import GREEDY, HARD, alone, answers, assistant, endpoint, sent
from cloud_servers import DONE, END, Server, Visit, event, fine, hangs_after_head, without_proxies
from edgemoe import Cancelled
from edgemoe.config import Budget


@pytest.fixture(autouse=True)
def on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)


def text(answer: Iterator[str]) -> str:
    return "".join(answer)


def test_a_spent_budget_means_local(router_file: Path, tmp_path: Path) -> None:
    with (
        Server(answers("Dear.", completion_tokens=300)) as server,
        assistant(router_file, tmp_path, endpoint(server), budget=Budget(1.0)) as here,
    ):
        first = here.reply(HARD, max_tokens=200)
        assert text(first) == "Dear."
        assert here.account.spent() == pytest.approx(0.7) == first.cost
        second = here.reply(HARD, **(GREEDY | {"max_tokens": 200}))
        assert second.decision.rule == "budget"
        second.close()
        third = here.reply(HARD, max_tokens=24)
        assert text(third) == "Dear."
        assert sent(server.visits[1])["max_tokens"] == 24
        assert here.reply(HARD, **GREEDY).decision.rule == "budget"
        assert len(server.visits) == 2


def test_an_answer_may_not_cost_more_than_is_left(router_file: Path, tmp_path: Path) -> None:
    with (
        Server(answers("Dear.")) as server,
        assistant(router_file, tmp_path, endpoint(server), budget=Budget(1.0), answer_tokens=10) as here,
    ):
        text(here.reply(HARD))
        most = sent(server.visits[0])["max_tokens"]
        assert 400 < most < 500  # 2000 for a million tokens
        with here.account.spending("big", lambda left: (0.0, 0.5)):
            text(here.reply(HARD))
        assert sent(server.visits[1])["max_tokens"] < most - 200


def test_no_limit_is_sent_that_a_server_could_refuse(router_file: Path, tmp_path: Path) -> None:
    def limited(visit: Visit) -> None:
        if sent(visit).get("max_tokens", 0) > 16384:
            visit.answer('{"error": "max_tokens is too large"}', "400 Bad Request", "")
        else:
            answers("Dear.", completion_tokens=50)(visit)

    with Server(limited) as server:
        cheap = endpoint(server, input_price=1.0, output_price=2.0)  # the budget pays half a million tokens
        with assistant(router_file, tmp_path, cheap, budget=Budget(1.0)) as here:
            open_one = here.reply(HARD)
            assert next(open_one) == "Dear."
            other = here.reply(HARD)  # while the first one has reserved its part
            assert (text(other), other.answered_by, other.notes) == ("Dear.", ["big"], [])
            open_one.close()


def test_a_prompt_that_was_sent_is_paid_for(router_file: Path, tmp_path: Path) -> None:
    with (
        Server(hangs_after_head) as server,
        assistant(router_file, tmp_path, endpoint(server), budget=Budget(100.0)) as here,
    ):
        answer = here.reply(HARD, **GREEDY)
        threading.Timer(1.0, answer.cancel).start()
        with pytest.raises(Cancelled):
            text(answer)
        assert answer.cost == pytest.approx(here.account.spent())
        assert answer.cost > 0.005
    with (
        Server(lambda visit: visit.answer("who?", "401 Unauthorized")) as server,
        assistant(router_file, tmp_path / "refused", endpoint(server), budget=Budget(100.0)) as here,
    ):
        assert text(here.reply(HARD, **GREEDY))
        assert here.account.spent() == 0


def test_an_answer_that_is_left_early_is_paid_for(router_file: Path, tmp_path: Path) -> None:
    def endless(visit: Visit) -> None:
        visit.answer("")
        while True:
            visit.send(event("word "))
            time.sleep(0.01)

    with Server(endless) as server, assistant(router_file, tmp_path, endpoint(server)) as here:
        with here.reply(HARD) as answer:
            for _ in range(10):
                next(answer)
        assert server.visits[0].gone.wait(20)
        assert here.account.spent() > 10 * 2000 / 1e6
        assert here.decider.ledger.reserved() == 0


def test_a_ledger_that_cannot_be_used_spends_nothing(router_file: Path, tmp_path: Path) -> None:
    with Server(fine) as server, assistant(router_file, tmp_path, endpoint(server), budget=Budget(9.0)) as here:
        assert text(here.reply(HARD)) == "Hello you."
        here.config.ledger.write_bytes(b"damaged")
        answer = here.reply(HARD, **GREEDY)
        assert answer.decision.rule == "unavailable"
        assert "damaged" in answer.decision.reason
        assert text(answer) == alone(HARD)
        assert len(server.visits) == 1


def test_without_a_place_to_count_no_budget_is_spent(router_file: Path, tmp_path: Path) -> None:
    (tmp_path / "ledger.json.lock").mkdir()
    options: dict[str, Any] = {"budget": Budget(6.0), "answer_tokens": 1}
    with Server(fine) as server, assistant(router_file, tmp_path, endpoint(server), **options) as here:
        answer = here.reply(HARD, **GREEDY)
        assert answer.decision.route == "cloud"
        assert text(answer) == alone(HARD)
        assert "big failed (what it costs cannot be counted: " in answer.notes[0]
        assert not server.visits


@pytest.mark.parametrize("budget", [Budget(20.0), None], ids=["budget", "no budget"])
def test_what_cannot_be_counted_stays_reserved_and_is_counted_later(
    router_file: Path, tmp_path: Path, budget: Budget | None
) -> None:
    lock = tmp_path / "ledger.json.lock"

    def breaks_the_lock(visit: Visit) -> None:
        lock.unlink(missing_ok=True)
        lock.mkdir()
        fine(visit)

    options: dict[str, Any] = {"budget": budget, "answer_tokens": 1}
    with (
        Server(breaks_the_lock, fine) as server,
        assistant(router_file, tmp_path, endpoint(server), **options) as here,
    ):
        answer = here.reply(HARD, max_tokens=4000)
        assert text(answer) == "Hello you."
        assert "what was spent is not counted" in answer.notes[0]
        assert answer.cost == pytest.approx(5.0)
        assert here.decider.ledger.spent() == 0
        assert (here.decider.ledger.reserved() > 8) is (budget is not None)  # for 4000 tokens at 2000 a million
        lock.rmdir()
        assert text(here.reply(HARD, max_tokens=1000)) == "Hello you."
        assert here.account.spent() == pytest.approx(10.0)
        assert here.decider.ledger.reserved() == 0


def test_answers_at_the_same_time_stay_inside_the_budget(router_file: Path, tmp_path: Path) -> None:
    asked: list[int] = []

    def obedient(visit: Visit) -> None:
        most = sent(visit)["max_tokens"]
        asked.append(most)
        visit.answer("")
        time.sleep(0.3)  # the others are asked meanwhile
        usage = event(choices=[], usage={"prompt_tokens": 10, "completion_tokens": most})
        visit.send(event("word") + END + usage + DONE)

    with (
        Server(obedient) as server,
        assistant(router_file, tmp_path, endpoint(server), budget=Budget(1.0), answer_tokens=10) as here,
    ):
        replies = [here.reply(HARD, **(GREEDY | {"max_tokens": 150})) for _ in range(6)]
        assert {reply.decision.route for reply in replies} == {"cloud"}  # all were decided before any began
        threads = [threading.Thread(target=text, args=(reply,)) for reply in replies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 0.5 < here.account.spent() <= 1.0
        assert len(asked) >= 3
        assert here.decider.ledger.reserved() == pytest.approx(0)
        assert all(reply.text for reply in replies)
        assert any("reserved by answers under way" in note for reply in replies for note in reply.notes)


def test_a_server_that_ignores_the_limit_is_cut_off(router_file: Path, tmp_path: Path) -> None:
    def endless(visit: Visit) -> None:
        visit.answer("")
        while True:
            visit.send(event("word "))

    options: dict[str, Any] = {"budget": Budget(0.2), "answer_tokens": 1}
    with Server(endless) as server, assistant(router_file, tmp_path, endpoint(server), **options) as here:
        answer = here.reply(HARD)
        assert len(text(answer)) < 1000
        assert answer.finish_reason == "length"
        assert "beyond the budget" in answer.notes[0]
        assert server.visits[0].gone.wait(20)
        assert 0.19 < here.account.spent() < 0.21


def test_thoughts_are_paid_for(router_file: Path, tmp_path: Path) -> None:
    def thinks(visit: Visit) -> None:
        visit.answer("")
        for _ in range(10):
            visit.send(event(choices=[{"index": 0, "delta": {"reasoning_content": "Let me think. "}}]))

    with Server(thinks) as server, assistant(router_file, tmp_path, endpoint(server)) as here:
        answer = here.reply(HARD, **GREEDY)
        assert text(answer) == alone(HARD)
        assert answer.answered_by == ["small"]
        assert here.account.spent() > 30 * 2000 / 1e6


# Other processes

ASKS = """
import sys
from edgemoe import Assistant
from edgemoe.assistant import account
account._SECONDS = 0.0
with Assistant(sys.argv[1]) as here:
    sys.stdin.readline()
    for _ in range(int(sys.argv[3])):
        answer = here.reply(sys.argv[2], max_tokens=100)
        if answer.decision.route == "cloud":
            try:
                for piece in answer:
                    print(piece, flush=True)
                    if answer.answered_by[-1] != "big":
                        break  # one token of the local model is enough
            finally:
                answer.close()
"""


def asking(config: Path, server: Server, times: int, router: Path, budget: float) -> subprocess.Popen[str]:
    """A process with an assistant that asks as soon as a line is written to it."""
    config.write_text(
        f'''budget = "{budget}/week"
answer_tokens = 10
router = "{router}"
state = "{config.parent}"
[cloud.big]
base_url = "http://127.0.0.1:{server.port}/v1"
model = "m"
input_price = 1000
output_price = 2000
'''
    )
    command = [sys.executable, "-c", ASKS, str(config), HARD, str(times)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_stay_inside_one_budget(router_file: Path, tmp_path: Path) -> None:
    paid: list[int] = []

    def expensive(visit: Visit) -> None:
        visit.answer("")
        time.sleep(0.1)  # the other one asks meanwhile
        paid.append(sent(visit)["max_tokens"])
        usage = event(choices=[], usage={"prompt_tokens": 10, "completion_tokens": paid[-1]})
        visit.send(event("word") + END + usage + DONE)

    with Server(expensive) as server:
        both = [asking(tmp_path / "config.toml", server, 6, router_file, 1.0) for _ in range(2)]
        for process in both:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        assert [(process.communicate()[1], process.returncode) for process in both] == [(None, 0)] * 2
    spent = sum(10 * 1000 / 1e6 + tokens * 2000 / 1e6 for tokens in paid)
    assert 0.8 < spent <= 1.0
    book = json.loads((tmp_path / "ledger.json").read_bytes())
    assert not book["reserved"]
    assert sum(day["big"] for day in book["days"].values()) == pytest.approx(spent)


def test_a_killed_process_has_spent_what_came(router_file: Path, tmp_path: Path) -> None:
    def endless(visit: Visit) -> None:
        visit.answer("")
        while True:
            visit.send(event("word "))
            time.sleep(0.01)

    with Server(endless) as server:
        process = asking(tmp_path / "config.toml", server, 1, router_file, 9.0)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        for _ in range(20):
            assert process.stdout.readline() == "word \n"
        with assistant(router_file, tmp_path, endpoint(server), budget=Budget(0.1)) as here:
            assert here.decide(HARD).rule == "budget"  # the other one has reserved more
        with assistant(router_file, tmp_path, endpoint(server), budget=Budget(0.5)) as here:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert 19 * 2000 / 1e6 < here.account.spent() < 0.3
            assert here.decide(HARD, max_tokens=10).route == "cloud"  # what it did not use is free
