"""The program in a terminal, as a user has it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pexpect

PROGRAM = ["-c", "from edgemoe.cli import main; main()"]
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[=>])")
UP, TAB, ALT_ENTER, CTRL_R, CTRL_D = "\x1b[A", "\t", "\x1b\r", "\x12", "\x04"


def environment(state: Path, **variables: str) -> dict[str, str]:
    """Of a user whose state is in this folder."""
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    home = {"XDG_STATE_HOME": str(state), "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm-256color"}
    return kept | home | {"OMP_NUM_THREADS": "1"} | variables


class Terminal:
    """A chat in a terminal of this size. `state` is the folder above `edgemoe/`, where it keeps things."""

    def __init__(self, state: Path, *arguments: str, rows: int = 50, columns: int = 120, **variables: str) -> None:
        self.state = state / "edgemoe"
        self.child = pexpect.spawn(
            sys.executable,
            [*PROGRAM, "chat", *arguments],
            env=environment(state, **variables),
            encoding="utf-8",
            timeout=60,
            dimensions=(rows, columns),
        )
        self.greeting = self.prompt()

    def prompt(self) -> str:
        """What was shown before the next prompt, without control sequences."""
        self.child.expect(">>> ")
        return plain(self.child.before)

    def type(self, text: str) -> None:
        """As typed: nothing is added."""
        self.child.send(text)

    def say(self, text: str) -> str:
        """A whole line and what the chat says to it."""
        self.child.send(f"{text}\r")
        return self.prompt_after(text)

    def prompt_after(self, text: str) -> str:
        """The next prompt after the one in which `text` stands, which is drawn anew when it is entered."""
        shown = ""
        while True:
            shown = self.prompt()
            if answered(shown, text):
                return shown

    def expect(self, pattern: str) -> str:
        """What was shown up to the pattern, and it."""
        self.child.expect(pattern)
        return plain(self.child.before + self.child.after)

    def leave(self, farewell: str = "/bye\r") -> str:
        """The last words; the program has to end well."""
        self.child.send(farewell)
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus == 0
        return plain(self.child.before)

    def kill(self) -> None:
        """As kill -9 does."""
        self.child.kill(9)
        self.child.expect(pexpect.EOF)
        self.child.close()


def answered(shown: str, text: str) -> bool:
    """Whether something stands behind the line that was typed."""
    return bool(shown.rpartition(text.split("\n")[-1][-20:])[2].strip()) if text else True


def plain(text: str) -> str:
    """Without control sequences."""
    return ESCAPES.sub("", text).replace("\r", "")
