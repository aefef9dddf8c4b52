"""The interactive chat, driven in a terminal: each command, the keys, sessions, and terminals of several kinds."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from edgemoe.default_model import default_model_path
from models import write_model
from terminals import ALT_ENTER, CTRL_D, CTRL_R, PROGRAM, TAB, UP, Terminal, environment

GREEDY = ("--temperature", "0", "--max-tokens", "30", "--threads", "1")


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """One that the tests share; each leaves it without a conversation."""
    terminal = Terminal(tmp_path_factory.mktemp("shared"), *GREEDY, "--session", "shared")
    yield terminal
    assert "edgemoe chat --session shared goes on" in terminal.leave()


def kept(chat: Terminal, name: str = "shared") -> list[str]:
    """What its session's file has."""
    found = json.loads((chat.state / "sessions" / f"{name}.json").read_text())
    return [message["content"] for message in found["messages"]]


# Commands


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("/help", r"/clear +forgets the conversation"),
        ("/help set", r"/set \[NAME VALUE\]"),
        ("/help", r"/bye +leaves\n +\"\"\""),
        ("/stats", r"answers +none yet"),
        ("/show", r"model +tinystories-moe.mwq.gguf"),
        ("/show", r"session +shared"),
        ("/show thinking", "there was no thinking"),
        ("/show colours", "'colours' cannot be shown: /show alone, or with thinking or messages"),
        ("/set", r"temperature +0\n +top_p +0.95"),
        ("/set top_k 7", r"top_k +7"),
        ("/set top_k default", r"top_k +40"),
        ("/set temprature 1", "did you mean temperature"),
        ("/set temp 1", "did you mean temperature"),
        ("/mem 1GiB", "did you mean /memory"),
        ("/set temperature hot", "temperature 'hot' cannot be used: it takes a number of 0 or more"),
        ("/set thinking open", "thinking 'open' cannot be used: it is shown or folded"),
        ("/memory 700MiB", r"memory +.* budget 700 MiB"),
        ("/memory 1MiB", "too small"),
        ("/memory lots", "'lots' is not a size"),
        ("/quality fast", r"quality +fast"),
        ("/quality good", "quality='good' is unknown"),
        ("/quality exact", r"quality +exact"),
        ("/system Be kind.", "Be kind."),
        ("/system", "Be kind."),
        ("/system none", "There is no system prompt"),
        ("/retry", "nothing was said yet"),
        ("/undo", "nothing was said yet"),
        ("/save", "which file"),
        ("/save --overwrite", "which file"),
        ("/save missing/story.json", "there is no folder"),
        ("/save ~nobody-of-this-name/x", "is no file's name"),
        (f"/save {'x' * 300}", r"cannot\s+be\s+written:\s+File\s+name\s+too\s+long"),
        ("/load missing.json", "missing.json cannot be read: No such file"),
        ("/route", "edgemoe chat --route has"),
        ("/good", "edgemoe chat --route has"),
        ("/bad", "edgemoe chat --route has"),
        ("/hlep", "there is no command /hlep: did you mean /help"),
        ("/x", "there is no command /x: /help lists them"),
        ("/clear", "starts anew"),
    ],
)
def test_commands(chat: Terminal, command: str, shown: str) -> None:
    assert re.search(shown, chat.say(command))


def test_a_conversation_and_what_can_be_done_with_it(chat: Terminal, tmp_path: Path) -> None:
    shown = chat.say("Hello.")
    assert re.search(r"\d+ tokens · [\d.]+ tok/s · .*% hits · [\d.]+ MiB read per token · peak [\d.]+ MiB", shown)
    question, answer = kept(chat)
    assert question == "Hello."
    assert answer in shown
    assert "the answer will be the same" in chat.say("/retry")
    assert kept(chat) == [question, answer]
    chat.say("/set temperature 1.5")
    answers = {(chat.say("/retry"), kept(chat)[1])[1] for _ in range(12)}  # one greeting is likely even at that
    assert len(answers) > 1, "each has a seed of its own"
    chat.say("/set temperature 0")
    chat.say("Thank you!")
    assert len(kept(chat)) == 4
    assert re.search(rf"{tmp_path}/two.json\s+has 2 messages of yours", chat.say(f"/save {tmp_path}/two.json"))
    assert "Dropped: Thank you!" in chat.say("/undo")
    assert len(kept(chat)) == 2
    chat.say("/clear")
    assert kept(chat) == []
    assert "has another conversation" in " ".join(chat.say(f"/save {tmp_path}/two.json").split())
    assert "2 messages of yours" in chat.say(f"/load {tmp_path}/two.json")
    assert len(kept(chat)) == 4
    assert re.search("user:\n+Hello.*assistant:.*user:\n+Thank you!", chat.say("/show messages"), re.DOTALL)
    (tmp_path / "mine.txt").write_text("mine")
    assert "stays as it is" in chat.say(f"/save {tmp_path}/mine.txt")
    chat.say("/clear")


def test_several_lines(chat: Terminal) -> None:
    chat.type('"""Tell me\r')
    chat.type("a story.\r")
    chat.type('/help"""\r')
    chat.expect("tok/s · .*to the first")
    chat.prompt()
    assert kept(chat)[0] == "Tell me\na story.\n/help"
    chat.say("/clear")
    chat.say('"""/help"""')
    assert kept(chat)[0] == "/help"
    chat.say("/clear")
    chat.type(f"Hello,{ALT_ENTER}you.\r")
    chat.expect("tok/s · .*to the first")
    chat.prompt()
    assert kept(chat)[0] == "Hello,\nyou."
    chat.say("/clear")


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (f"/st{TAB}\r", "bits per weight"),
        (f"/set temp{TAB}\r", r"temperature +0"),
        (f"/set thinking fol{TAB}\r", r"thinking +folded"),
        (f"/quality bal{TAB}\r", r"quality +balanced"),
        (f"/quality exa{TAB}\r", r"quality +exact"),
        (f"/help /und{TAB}\r", "drops your last"),
    ],
)
def test_completion(chat: Terminal, typed: str, shown: str) -> None:
    command, end = typed.split(TAB)
    chat.type(command + TAB)
    time.sleep(0.3)
    chat.type(end)
    chat.expect(shown)
    chat.prompt()


def test_completion_of_files(chat: Terminal, tmp_path: Path) -> None:
    (tmp_path / "conversation.json").write_text("{}")
    chat.type(f"/load {tmp_path}/conv{TAB}")
    time.sleep(0.3)
    chat.type("\r")
    chat.expect("conversation.json is no conversation of edgemoe")
    chat.prompt()


# Keys


def test_ctrl_c_clears_the_line_and_twice_leaves(tmp_path: Path) -> None:
    chat = Terminal(tmp_path, *GREEDY)
    chat.type("half a thought")
    chat.expect("half a thought")
    chat.child.sendintr()
    chat.expect("Ctrl-C again, Ctrl-D or /bye leaves")
    chat.prompt()
    assert "temperature" in chat.say("/set")
    chat.child.sendintr()
    chat.expect("Ctrl-C again")
    chat.prompt()
    chat.leave("\x03")
    assert "half a thought" not in (chat.state / "history").read_text()


def test_ctrl_c_stops_the_answer_and_ctrl_d_leaves(tmp_path: Path) -> None:
    [path] = write_model(tmp_path / "model.gguf", "qwen3moe")
    chat = Terminal(tmp_path, str(path), "--ctx", "8192", "--temperature", "0")
    chat.type("Hello.\r")
    chat.expect("waiting|tok/s")
    time.sleep(1.0)
    chat.child.sendintr()
    chat.child.sendintr()  # whoever is impatient
    shown = chat.expect(r"\(stopped\)\s+(\d+ tokens|no answer)")  # random weights may say nothing that can be read
    assert "decode:" not in shown
    chat.prompt()
    assert re.search(r"(?s)answers.* bits per weight +[\d.]+", chat.say("/stats"))
    chat.leave(CTRL_D)


def test_ctrl_c_before_the_first_token_keeps_nothing(tmp_path: Path) -> None:
    [path] = write_model(tmp_path / "model.gguf", "qwen3moe")
    long = "many words " * 2000
    chat = Terminal(tmp_path, str(path), "--ctx", "16384", "--threads", "1", "--session", "none", "--system", long)
    chat.type("Hello.\r")
    chat.expect("waiting")
    chat.child.sendintr()
    assert "to the first" not in chat.expect("That message has no answer, and is not kept")
    chat.prompt()
    assert kept(chat, "none") == [long]
    assert f"edgemoe chat {path} --session none goes on" in chat.leave(CTRL_D)


def test_ctrl_d_leaves_no_line_that_has_text(tmp_path: Path) -> None:
    chat = Terminal(tmp_path, *GREEDY)
    chat.type(f"xHello.\x01{CTRL_D}\r")  # Ctrl-A goes to its beginning
    chat.expect(r"Hello\.\s[^>]*to the first")
    chat.prompt()
    chat.leave(CTRL_D)


def test_ctrl_z_goes_to_the_shell_and_back(tmp_path: Path) -> None:
    shell = pexpect.spawn("bash", ["--norc", "-i"], env=environment(tmp_path), encoding="utf-8", timeout=60)
    shell.sendline(shlex.join([sys.executable, *PROGRAM, "chat", *GREEDY]))
    shell.expect(">>> ")
    shell.send("Hel")
    shell.expect("Hel")
    shell.send("\x1a")
    shell.expect("Stopped")
    shell.sendline("fg")
    shell.expect(">>> ")
    shell.send("lo.\r")
    shell.expect("to the first")
    shell.send("/bye\r")
    shell.sendline("exit")
    shell.expect(pexpect.EOF)
    assert "Hello." in (tmp_path / "edgemoe/history").read_text()


# Sessions and history


def test_history_and_session_outlive_a_kill(tmp_path: Path) -> None:
    chat = Terminal(tmp_path, *GREEDY, "--session", "story", "--system", "You tell stories.")
    chat.say("Hello.")
    chat.say("/set top_k 3")
    chat.kill()
    for path in (chat.state / "history", chat.state / "sessions/story.json"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert chat.state.stat().st_mode & 0o777 == 0o700

    chat = Terminal(tmp_path, *GREEDY, "--session", "story")
    answer = kept(chat, "story")[2]
    assert "goes on after 1 message of yours:" in chat.greeting
    assert answer in chat.greeting
    assert "You tell stories." in chat.say("/system")
    assert re.search(r"top_k +3", chat.say("/set"))
    chat.type(f"{CTRL_R}Hell")
    chat.expect("Hell")
    time.sleep(0.3)
    chat.type("\r")
    time.sleep(0.3)
    chat.type("\r")
    chat.expect("to the first")
    chat.prompt()
    chat.type(f"{UP}\r")
    chat.expect("to the first")
    chat.prompt()
    assert kept(chat, "story")[1::2] == ["Hello."] * 3
    chat.leave()
    listed = once(tmp_path, "--sessions")
    assert re.search(r"story +20\d\d-.* 3 messages, tinystories-moe.mwq.gguf: Hello.", listed.stdout)
    assert json.loads(once(tmp_path, "--sessions", "--json").stdout)[0]["questions"] == 3


def once(state: Path, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """The program without a terminal."""
    command = [sys.executable, *PROGRAM, "chat", *arguments]
    return subprocess.run(
        command, env=environment(state), input=text, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_session_goes_on_without_a_terminal(tmp_path: Path) -> None:
    assert once(tmp_path, *GREEDY, "--session", "x", "-p", "Hello.").returncode == 0
    done = once(tmp_path, *GREEDY, "--session", "x", text="Thank you!\n")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    messages = json.loads((tmp_path / "edgemoe/sessions/x.json").read_text())["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant"] * 2
    assert messages[3]["content"] == done.stdout.strip()


def test_a_damaged_session_is_told_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "edgemoe/sessions/x.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"format": "edgemoe conv')
    done = once(tmp_path, "--session", "x", "-p", "Hello.")
    assert done.returncode == 2
    assert re.fullmatch(r"edgemoe: .*x.json is damaged or no conversation: .*\n", done.stderr)
    assert path.read_text() == '{"format": "edgemoe conv'
    assert "is damaged" in once(tmp_path, "--sessions").stdout
    done = once(tmp_path, "--session", "../x", "-p", "Hello.")
    assert (done.returncode, "is no name of a session" in done.stderr) == (2, True)


def test_thoughts_of_a_session_unfold(tmp_path: Path) -> None:
    said = [("user", "Hi."), ("assistant", "<think>\nA greeting\x1b[2J.\n</think>\n\n**Hello** \x1b]0;evil\x07!")]
    session = {"format": "edgemoe conversation", "version": 1, "private": False, "settings": {}}
    session["messages"] = [{"role": role, "content": content} for role, content in said]
    path = tmp_path / "edgemoe/sessions/x.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(session))
    chat = Terminal(tmp_path, "--session", "x")
    assert "A greeting" not in chat.greeting
    assert "Hello ]0;evil!" in chat.greeting
    assert "A greeting[2J." in chat.say("/show thinking")
    chat.leave()


# Terminals


def test_no_color_means_no_colour(tmp_path: Path) -> None:
    chat = Terminal(tmp_path, *GREEDY, NO_COLOR="1")
    for text in ("Hello.", "/help", "/nonsense"):
        chat.say(text)
    chat.leave()
    assert set(re.findall(r"\x1b\[([0-9;]*)m", chat.raw)) <= {"", "0"}


def test_a_dumb_terminal_gets_text_alone(tmp_path: Path) -> None:
    chat = Terminal(tmp_path, *GREEDY, TERM="dumb")
    assert "I am a tiny story model" in chat.say("Hello.")
    assert "temperature" in chat.say("/set")
    assert "\x1b" not in chat.raw
    chat.leave(CTRL_D)


def test_unwritable_state_folder_only_costs_the_history(tmp_path: Path) -> None:
    (tmp_path / "edgemoe").write_text("not a folder")
    chat = Terminal(tmp_path)
    chat.leave(CTRL_D)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux")
@pytest.mark.parametrize("columns", [30, 40, 150])
def test_narrow_and_wide_screens(tmp_path: Path, columns: int) -> None:
    program = [sys.executable, *PROGRAM, "chat", *GREEDY, "--session", "narrow"]
    variables = {name: value for name, value in environment(tmp_path).items() if name != "PROMPT_TOOLKIT_NO_CPR"}
    tmux = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [*tmux, *arguments], env=variables, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    def screen_with(pattern: str) -> str:
        for _ in range(300):
            if re.search(pattern, shown := call("capture-pane", "-p", "-S", "-200")):
                return shown
            time.sleep(0.1)
        raise AssertionError(f"{pattern} is not on the screen:\n{shown}")

    call("new-session", "-d", "-x", str(columns), "-y", "20", *program)
    try:
        screen_with(">>>")
        call("send-keys", "Tell me a story about a fish.", "Enter")
        memory = r" · [\d.]+ MiB / [\d.]+ GiB" if columns > 30 else ""
        shown = screen_with(rf"(?s)peak.*limit.*>>>.*tok/s{memory}")
        answer = json.loads((tmp_path / "edgemoe/sessions/narrow.json").read_text())["messages"][1]["content"]
        said = shown.split("sh.\n", 1)[1].split("30 tokens")[0]
        assert said.split() == answer.split(), "each word once, and nothing else is left"
        assert ("session narrow" in shown.split(">>>")[-1]) == (columns > 40)
        call("send-keys", "/help", "Enter")
        screen_with("Ctrl-D *\n? *leaves")
        call("send-keys", "/se", "Tab")
        screen_with(">>> /set")
    finally:
        call("kill-server")


def test_a_chat_needs_a_terminal(tmp_path: Path) -> None:
    child = pexpect.spawn(
        "sh", ["-c", f"{sys.executable} -m edgemoe chat {default_model_path()} | cat"], encoding="utf-8", timeout=60
    )
    child.expect("a chat needs a terminal: give -p TEXT")
    child.expect(pexpect.EOF)
