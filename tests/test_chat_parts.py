"""Parts of the chat: thoughts and Markdown that come in pieces, lines drawn over lines, settings, saved files."""

from __future__ import annotations

import io
import json
import re
import signal
import time
from pathlib import Path

import pytest
from rich.console import Console

from edgemoe.chat.commands.registry import is_command
from edgemoe.chat.keyboard import one_interrupt
from edgemoe.chat.markdown import BlockStream, ChatMarkdown, split_blocks
from edgemoe.chat.painter import Line, Painter
from edgemoe.chat.screen import Screen as ChatScreen
from edgemoe.chat.settings import Settings
from edgemoe.chat.store import Saved, load_conversation, open_session, save_conversation, save_under_name
from edgemoe.chat.view import LiveView, fitting
from edgemoe.errors import EdgeMoEError
from edgemoe.thinking import TAGS, ThinkingFilter, opened_by_prompt, split_thoughts

# Thoughts


def filtered(text: str, size: int, closing: str | None = None) -> tuple[str, str]:
    thinking = ThinkingFilter(closing)
    answer = "".join(thinking.feed(text[i : i + size]) for i in range(0, len(text), size)) + thinking.end()
    return thinking.thoughts, answer


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("opening", TAGS)
def test_thoughts_are_told_from_the_answer(opening: str, size: int) -> None:
    closing = TAGS[opening]
    text = f"\n{opening}a < b </ c{closing}\n\nAn answer with {opening} and {closing} in it."
    answer = f"An answer with {opening} and {closing} in it."
    assert filtered(text, size) == ("a < b </ c", answer)
    assert filtered(f"one{closing}{opening}two{closing}three", size, closing) == ("one\n\ntwo", "three")
    assert split_thoughts(text, None) == ("a < b </ c", answer)


@pytest.mark.parametrize("size", [1, 4])
def test_answers_without_thoughts_are_whole(size: int) -> None:
    for text in ("<thin ice>", "a <think> b", "", "<"):
        assert filtered(text, size) == ("", text)
    assert filtered("<think>cut of</thi", size) == ("cut of</thi", "")


def test_a_template_may_open_the_thoughts() -> None:
    class Model:
        def __init__(self, end: str) -> None:
            self.end, self.chat_format = end, "x"
            self._chat_handlers = {"x": lambda llama, **_: llama.create_completion(prompt="prompt")}

        chat_handler = None

        def tokenize(self, text: bytes, **_: object) -> list[int]:
            return list(text)

        def detokenize(self, tokens: list[int], **_: object) -> bytes:
            return bytes(tokens) + self.end.encode()

    assert opened_by_prompt(Model("assistant\n<think>\n")) == "</think>"
    assert opened_by_prompt(Model("assistant\n")) is None


# Markdown

DOCUMENT = """# Title

A *word*, List<String>, <b>no HTML</b> and a [link](http://example.com)
on two lines

```python
def f(x):

    return x
```
- one

  more of it
- two

[1]: http://example.com

| a | b |
|---|---|
| 1 | 2 |

> quoted
"""


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_blocks_are_the_same_however_they_come(size: int) -> None:
    stream = BlockStream()
    found = [b for i in range(0, len(DOCUMENT), size) for b in stream.feed(DOCUMENT[i : i + size])] + stream.end()
    assert [block.rstrip() for block in found] == [block.rstrip() for block in split_blocks(DOCUMENT)]
    assert [block.split("\n")[0] for block in found] == [
        "# Title",
        "A *word*, List<String>, <b>no HTML</b> and a [link](http://example.com)",
        "```python",
        "- one",
        "[1]: http://example.com",
        "| a | b |",
        "> quoted",
    ]


def rendered(text: str, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(ChatMarkdown(text))
    assert isinstance(console.file, io.StringIO)
    return re.sub(" +$", "", console.file.getvalue(), flags=re.MULTILINE)


def test_nothing_that_a_model_says_is_lost_or_hidden() -> None:
    text = rendered(DOCUMENT)
    for part in ("# Title", "List<String>", "<b>no HTML</b>", "link (http://example.com)\non two", "[1]: http://"):
        assert part in text
    assert "```python\ndef f(x):\n\n    return x\n```" in text
    assert "\x1b" not in rendered("&#27;[2J &#x1b;[2J [a](http://x/\x1b) ![picture](http://x)")
    assert "picture (http://x)" in rendered("![picture](http://x)")


# Lines drawn over lines


class Screen:
    """What a terminal shows: lines, without a limit of their number; colours are left out."""

    def __init__(self) -> None:
        self.lines, self.row, self.column = [""], 0, 0
        self.written = 0

    def write(self, text: str) -> None:
        self.written += len(text)
        for part in re.findall(r"\x1b\[\d*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
            if part == "\r":
                self.column = 0
            elif part == "\n":
                self.row, self.column = self.row + 1, 0
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif part.endswith("A") and part[0] == "\x1b":
                self.row -= int(part[2:-1])
            elif part == "\x1b[K":
                self.lines[self.row] = self.lines[self.row][: self.column]
            elif part == "\x1b[J":
                self.lines[self.row :] = [self.lines[self.row][: self.column]]
            elif part[0] != "\x1b":
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + part + line[self.column + len(part) :]
                self.column += len(part)


def lines(text: str) -> list[Line]:
    return [Line(line, len(line)) for line in text.split()]


def test_lines_are_drawn_over_and_finished_ones_stay() -> None:
    screen = Screen()
    painter = Painter(screen.write)
    finished: list[str] = []
    for done, changing in [("", "a s"), ("", "a b s"), ("a", "b s"), ("b", "c d e s"), ("", "c s"), ("c x y", "")]:
        painter.paint(lines(done), lines(changing), 80)
        finished += done.split()
        assert [line for line in screen.lines if line] == finished + changing.split()
    assert screen.column == 0
    painter.paint([], lines("s"), 80)
    painter.paint([], [], 80)
    assert [line for line in screen.lines if line] == finished


def test_only_what_differs_is_written() -> None:
    screen = Screen()
    painter = Painter(screen.write)
    long = "x" * 1000
    painter.paint([], lines(f"{long} {long} s"), 2000)
    before = screen.written
    painter.paint([], lines(f"{long} {long} t"), 2000)
    painter.paint([], lines(f"{long} {long} t"), 2000)
    assert screen.written - before < 20


def test_a_view_shows_each_part_once(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    console = Console(width=40, height=10, file=io.StringIO(), force_terminal=True, color_system=None)
    monkeypatch.setattr(console.file, "write", screen.write)
    view = LiveView(console, lambda: ["9 tok/s"], thinking_shown=False)
    view.think("hidden\x1b[2J")
    for i in range(0, len(DOCUMENT), 5):
        view.answer(DOCUMENT[i : i + 5])
    view.note("something happened")
    view.answer("\x1b]0;evil\x07 end")
    view.end("(stopped)")
    text = "\n".join(line.rstrip() for line in screen.lines)
    assert "hidden" not in text
    assert text.startswith("▸ thought for 0 s; /show thinking")
    for part in ("# Title", "def f(x):", " • two", "▌ quoted", "(something happened)", "]0;evil end", "(stopped)"):
        assert text.count(part) == 1, part
    assert "tok/s" not in text
    assert max(map(len, screen.lines)) < 40


@pytest.mark.parametrize("columns", [12, 30])
def test_what_is_waited_for_takes_one_line(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    screen = Screen()
    console = Console(width=columns, height=10, file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(console.file, "write", screen.write)
    view = LiveView(console, list, thinking_shown=False)
    view.waiting("loading a model with a name that is longer than the screen is wide")
    for _ in range(1000):
        if "loadi" in screen.lines[-1]:
            break
        time.sleep(0.01)
    assert len(screen.lines) == 1
    assert len(screen.lines[0]) < columns
    view.answer("**Words** ❤️ and `code`")
    view.end()
    assert "Words" in screen.lines[0]
    assert not any(line.endswith(" ") for line in screen.lines)


def test_names_and_values_share_a_line_where_they_fit() -> None:
    def shown(columns: int, value: str) -> list[str]:
        console = Console(width=columns, file=io.StringIO())
        ChatScreen(console).rows([("temperature", value), ("top_p", "1")])
        return [line.strip() for line in console.file.getvalue().splitlines()]

    assert shown(30, "0.7") == ["temperature  0.7", "top_p        1"]
    assert shown(30, "as this one says at length") == ["temperature", "as this one says at length", "top_p", "1"]
    assert shown(60, "as this one says at length")[0] == "temperature  as this one says at length"


def test_as_many_parts_as_fit() -> None:
    assert fitting(["12 tok/s", "1 GiB / 2 GiB", "50% hits"], 24) == "12 tok/s · 1 GiB / 2 GiB"
    assert fitting(["12 tok/s"], 3) == ""


# Settings


def test_settings_have_ranges() -> None:
    settings = Settings({"temperature": 0.0, "seed": None}, own_defaults=True)
    assert settings.sampling()["temperature"] == 0.0
    assert settings.sampling()["seed"] != settings.sampling()["seed"]
    settings.set("seed", "7")
    settings.set("max_tokens", "9")
    assert settings.given == {"temperature": 0.0, "seed": 7, "max_tokens": 9}
    settings.set("seed", "random")
    settings.set("temperature", "default")
    assert settings.get("temperature") == 0.7
    assert Settings({}, own_defaults=False).sampling() == {}
    for name, value in [("temperature", "-1"), ("temperature", "nan"), ("temperature", "hot"), ("top_p", "1.1")]:
        with pytest.raises(EdgeMoEError, match=f"{name} '{value}' cannot be used: it takes a number"):
            settings.set(name, value)
    for name, value in [("max_tokens", "0"), ("seed", "1.5"), ("seed", "99999999999"), ("top_k", "")]:
        with pytest.raises(EdgeMoEError, match="a whole number"):
            settings.set(name, value)
    with pytest.raises(EdgeMoEError, match="did you mean temperature"):
        settings.set("temprature", "1")
    with pytest.raises(EdgeMoEError, match="there are temperature, top_p"):
        settings.set("zzz", "1")


def test_paths_and_quoted_texts_are_no_commands() -> None:
    assert is_command("/set temperature 1")
    assert not is_command("/usr/bin/env is what?")
    assert not is_command("/help\nis what I want")
    assert not is_command("what is /help?")


# Files of conversations

MESSAGES = [{"role": "user", "content": "Grüße\x1b"}, {"role": "assistant", "content": "…"}]


def test_conversations_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    saved = Saved(MESSAGES, "model.gguf", True, {"temperature": 0.2})
    save_conversation(path, saved)
    assert load_conversation(path) == saved
    assert path.stat().st_mode & 0o777 == 0o600
    save_conversation(path, Saved([]))
    assert load_conversation(path).questions == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "damaged or no conversation"),
        ("[" * 100000, "damaged or no conversation"),
        ("[]", "no conversation of edgemoe"),
        (json.dumps({"format": "edgemoe conversation", "version": 2}), "has version 2, this edgemoe reads 1"),
        (json.dumps({"format": "edgemoe conversation", "version": 1, "messages": [{"role": "x"}]}), "is damaged"),
    ],
)
def test_damaged_files_are_told_and_stay(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(EdgeMoEError, match=reason):
        load_conversation(path)
    with pytest.raises(EdgeMoEError, match="stays as it is"):
        save_conversation(path, Saved(MESSAGES))
    assert path.read_text() == text


def test_a_name_that_a_person_gives_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    save_under_name(path, Saved(MESSAGES))
    longer = [*MESSAGES, {"role": "user", "content": "More."}]
    save_under_name(path, Saved(longer))  # all that was there is in it
    for other in ([], MESSAGES, [{"role": "user", "content": "Else."}]):
        with pytest.raises(EdgeMoEError, match=r"another conversation.*2 messages.*--overwrite"):
            save_under_name(path, Saved(other))
        assert load_conversation(path).messages == longer
    save_under_name(path, Saved([]), overwrite=True)
    assert load_conversation(path).messages == []


def test_folders_are_not_made_of_a_wrong_name(tmp_path: Path) -> None:
    with pytest.raises(EdgeMoEError, match=rf"there is no folder {tmp_path}/stroies"):
        save_under_name(tmp_path / "stroies" / "x.json", Saved(MESSAGES))
    assert not list(tmp_path.iterdir())


def test_other_files_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("mine")
    with pytest.raises(EdgeMoEError, match="stays as it is"):
        save_under_name(path, Saved(MESSAGES), overwrite=True)
    assert path.read_text() == "mine"


def test_what_does_not_say_that_it_is_public_is_private(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"format": "edgemoe conversation", "version": 1, "messages": MESSAGES}))
    assert load_conversation(path).private


def test_sessions_need_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(EdgeMoEError, match="cannot be made: Not a directory; set XDG_STATE_HOME"), open_session("x"):
        pass


def test_a_session_is_open_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with open_session("x") as path, open_session("y"):
        assert path == tmp_path / "edgemoe/sessions/x.json"
        assert path.parent.stat().st_mode & 0o777 == 0o700
        with pytest.raises(EdgeMoEError, match="x is open in another chat"), open_session("x"):
            pass
    with open_session("x"):
        pass
    for name in ("../x", "", "a b", ".x", "x" * 65):
        with pytest.raises(EdgeMoEError, match="is no name of a session"), open_session(name):
            pass


# Ctrl-C


def test_ctrl_c_is_raised_once_and_only_where_it_is_expected() -> None:
    before = signal.getsignal(signal.SIGINT)
    with one_interrupt() as interrupts:
        with pytest.raises(KeyboardInterrupt), interrupts.expected():
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        with interrupts.expected():
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_ctrl_c_that_comes_early_waits_until_it_is_expected() -> None:
    reached = False
    with one_interrupt() as interrupts:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), interrupts.expected():
            reached = True
    assert not reached
