"""The chat with a router: what a conversation remembers, the commands and the footer, and one answer as JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pexpect
import pytest

from assistants import EASY, GREEDY, HARD, answers, assistant, endpoint
from cloud_servers import Server, hangs_up, without_proxies
from edgemoe import Assistant, EdgeMoEError
from edgemoe.chat.routed import RoutedSession
from edgemoe.config import Budget
from routers import HARMFUL_PROMPT
from terminals import Terminal

PROGRAM = [sys.executable, "-c", "from edgemoe.cli import main; main()"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    without_proxies(monkeypatch)
    with Server(answers("From the", " cloud.")) as server:
        yield server


@pytest.fixture
def here(router_file: Path, tmp_path: Path, server: Server) -> Iterator[Assistant]:
    with assistant(router_file, tmp_path / "state", endpoint(server), budget=Budget(2.0)) as found:
        yield found


def say(session: RoutedSession, text: str) -> str:
    return "".join(session.reply(text, **GREEDY))


def test_a_conversation_goes_from_one_to_the_other(here: Assistant, server: Server) -> None:
    session = RoutedSession(here, "Be kind.")
    first = say(session, EASY)
    assert session.footer().startswith("small (threshold) · 24 tokens · ")
    assert say(session, HARD) == "From the cloud."
    assert session.footer() == "big (threshold) · 50 tokens · 0.2000, 0.2000 of 2 today"
    messages = json.loads(server.visits[0].body)["messages"]
    assert [m["content"] for m in messages] == ["Be kind.", EASY, first, HARD]
    assert [m["role"] for m in session.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert dict(session.explanation())["route"] == "cloud, big"
    session.set_memory("700MiB")
    rows = dict(session.report())
    assert rows["local memory"] == "700MiB"
    assert rows["small"].startswith("loaded")
    assert rows["spent today"] == "0.2000 of 2"
    here.config.ledger.write_bytes(b"damaged")  # what was said is still shown
    assert session.footer() == "big (threshold) · 50 tokens · 0.2000, unknown of 2 today"
    assert dict(session.report())["spent today"] == "unknown of 2"
    session.clear()
    assert [m["content"] for m in session.messages] == ["Be kind."]


def test_what_is_private_stays_until_the_conversation_ends(here: Assistant, server: Server) -> None:
    session = RoutedSession(here)
    say(session, f"{EASY} for jane@example.com")
    assert "small (personal data)" in session.footer()
    session.messages = session.messages[-1:]  # even if the message itself were forgotten
    say(session, HARD)
    assert "small (private)" in session.footer()
    assert not server.visits
    session.clear()
    assert say(session, HARD) == "From the cloud."
    locked = RoutedSession(here, local_only=True)
    say(locked, HARD)
    assert "small (local only)" in locked.footer()
    assert len(server.visits) == 1


def test_what_was_refused_is_not_remembered(here: Assistant) -> None:
    session = RoutedSession(here)
    assert say(session, HARMFUL_PROMPT) == here.config.refusal
    assert session.messages == []
    assert session.footer().startswith("refused: it is unsafe")


def test_nothing_to_explain_or_judge_yet(here: Assistant) -> None:
    session = RoutedSession(here)
    for call in (session.explanation, lambda: session.feedback(good=True)):
        with pytest.raises(EdgeMoEError, match="nothing was answered"):
            call()
    with pytest.raises(EdgeMoEError, match="need a budget"):
        session.set_memory("none")


def test_an_answer_that_is_left_early_stays(here: Assistant) -> None:
    session = RoutedSession(here)
    with closing(session.reply(EASY, **GREEDY)) as pieces:
        piece = next(pieces)
    assert session.messages[-1] == {"role": "assistant", "content": piece}
    assert session.finish_reason is None


# The program


@pytest.fixture
def file(router_file: Path, tmp_path: Path, server: Server) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(
        f'router = "{router_file}"\nstate = "state"\nconfidence = 1.0\n[local.small]\nctx = 512\n[cloud.big]\n'
        f'base_url = "http://127.0.0.1:{server.port}/v1"\nmodel = "m"\noutput_price = 1000.0\nretries = 0\n'
    )
    return path


def environment(tmp_path: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("EDGEMOE_")}
    return kept | {"XDG_STATE_HOME": str(tmp_path), "NO_COLOR": "1", "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, "chat", *arguments]
    return subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=120, check=False)


def test_one_answer(file: Path, tmp_path: Path, server: Server) -> None:
    done = run(tmp_path, "--route", "--config", str(file), "-p", HARD)
    assert (done.stdout, done.returncode) == ("From the cloud.\n", 0)
    assert "big (threshold) · 50 tokens · 0.0500" in done.stderr
    done = run(tmp_path, "--route", "--config", str(file), "--local-only", "--max-tokens", "9", "--json", "-p", HARD)
    found = json.loads(done.stdout)
    assert (found["answered_by"], found["finish_reason"], found["cost"]) == (["small"], "length", 0.0)
    assert (found["decision"]["rule"], found["usage"]["completion_tokens"]) == ("local only", 9)
    assert len(server.visits) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--route", "--quality", "exact"], "--quality is of one model"),
        (["--local-only"], "--local-only means nothing without --route"),
        (["--route", "--config", "{folder}/missing.toml"], "does not exist"),
        (["--route", "--config", "{folder}/wrong.toml"], "wrong.toml, line 1: .*'privat': did you mean private"),
    ],
)
def test_wrong_options(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "wrong.toml").write_text("privat = true\n")
    done = run(tmp_path, *(a.format(folder=tmp_path) for a in arguments), "-p", "hello")
    assert done.returncode == 2
    assert re.search(message, done.stderr)


def test_a_failing_cloud_is_told(router_file: Path, file: Path, tmp_path: Path) -> None:
    with Server(hangs_up) as broken:
        text = re.sub(r"127.0.0.1:\d+", f"127.0.0.1:{broken.port}", file.read_text())
        file.write_text(text)
        done = run(tmp_path, "--route", "--config", str(file), "--max-tokens", "9", "-p", HARD)
    assert done.returncode == 0
    assert done.stdout.strip()
    assert re.search(r"\(big failed \(.*small answers on this machine\)", done.stderr)


def test_private_conversations_stay_so_in_their_file(file: Path, tmp_path: Path, server: Server) -> None:
    arguments = ("--route", "--config", str(file), "--max-tokens", "9", "--session", "mine")
    assert run(tmp_path, *arguments, "-p", f"{EASY} for jane@example.com").returncode == 0
    done = run(tmp_path, *arguments, "--json", "-p", HARD)
    assert json.loads(done.stdout)["decision"]["rule"] in ("private", "personal data")
    assert not server.visits


def test_thoughts_and_escapes_of_the_cloud(file: Path, tmp_path: Path) -> None:
    said = answers("<thi", "nk>I wonder.\x1b[2J</think>", "**Bold** \x1b]0;evil\x07 words.")
    with Server(said) as thinker:
        file.write_text(re.sub(r"127.0.0.1:\d+", f"127.0.0.1:{thinker.port}", file.read_text()))
        chat = Terminal(tmp_path, "--route", "--config", str(file))
        shown = chat.say(HARD)
        assert "thought for 0 s; /show thinking unfolds it" in shown
        assert "Bold ]0;evil words." in shown
        assert "I wonder.[2J" in chat.say("/show thinking")
        assert "\x1b[2J" not in chat.raw
        assert "\x1b]0;" not in chat.raw
        chat.say("/set thinking shown")
        assert "I wonder." in chat.say("/retry")
        assert re.search("quality +fast", chat.say("/quality fast"))
        chat.leave()


def test_the_interactive_chat(file: Path, tmp_path: Path, server: Server) -> None:
    command = [*PROGRAM[1:], "chat", "--route", "--config", str(file), "--max-tokens", "20"]
    child = pexpect.spawn(
        PROGRAM[0], command, env=environment(tmp_path), encoding="utf-8", timeout=60, dimensions=(50, 300)
    )
    child.expect("Who answers: small, big")
    child.expect(">>>")
    child.send("/route\r")
    child.expect("nothing was answered yet")
    child.expect(">>>")
    child.send(f"{EASY}\r")
    child.expect(r"unsure \(\d+%\)\. Ask big, about 0.0200\? \[y/N\]")
    assert not server.visits
    child.send("n\r")
    child.expect(r"small \(threshold\) · confidence \d+% · 20 tokens")
    child.expect(">>>")
    child.send(f"{EASY}\r")
    child.expect(r"\[y/N\]")
    child.send("y\r")
    child.expect("From the cloud")
    child.expect("big")
    child.expect(">>>")
    child.send("/route\r")
    child.expect("note +small is unsure")
    child.expect(">>>")
    child.send(f"{HARD} jane@example.com\r")
    child.expect(r"small \(personal data\)")
    child.expect(">>>")
    child.send("/stats\r")
    child.expect("spent today")
    child.expect(">>>")
    child.send("/bye\r")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert len(server.visits) == 1
