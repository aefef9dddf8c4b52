"""The program in a terminal, as a user has it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from pathlib import Path

import pexpect

PROGRAM = ["-c", "from edgemoe.cli import main; main()"]
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[=>])")
SECONDS = 60.0
UP, TAB, ALT_ENTER, CTRL_R, CTRL_D = "\x1b[A", "\t", "\x1b\r", "\x12", "\x04"


def environment(state: Path, **variables: str) -> dict[str, str]:
    """Of a user whose state is in this folder."""
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    home = {"XDG_STATE_HOME": str(state), "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm-256color"}
    return kept | home | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"} | variables


class Terminal:
    """A chat in a terminal of this size.

    Attributes:
        state: where it keeps things.
        raw: all that it wrote.
        greeting: what it said first.
    """

    def __init__(self, state: Path, *arguments: str, rows: int = 50, columns: int = 120, **variables: str) -> None:
        self.state = state / "edgemoe"
        self.child = pexpect.spawn(
            sys.executable,
            [*PROGRAM, "chat", *arguments],
            env=environment(state, **variables),
            encoding="utf-8",
            dimensions=(rows, columns),
        )
        self.raw = ""
        self._seen = 0  # characters of the plain text
        self.greeting = self.prompt()

    def expect(self, pattern: str) -> str:
        """What is new up to the pattern, without control sequences."""
        end = time.monotonic() + SECONDS
        while not (found := re.search(pattern, text := plain(self.raw)[self._seen :])):
            assert time.monotonic() < end, f"{pattern!r} does not come, but {text!r}"
            with contextlib.suppress(pexpect.TIMEOUT):
                self.raw += self.child.read_nonblocking(1 << 16, timeout=1)
        self._seen += found.end()
        return text[: found.end()]

    def prompt(self) -> str:
        """What is new up to the next prompt."""
        return self.expect(r"(?m)^>>> ?").rstrip("> ")

    def type(self, text: str) -> None:
        """As typed: nothing is added."""
        self.child.send(text)

    def say(self, text: str) -> str:
        """Enters a line; what the chat says to it."""
        self.child.send(f"{text}\r")
        self.expect(re.escape(text[-30:]) + r" *\n")
        return self.prompt()

    def leave(self, farewell: str = "/bye\r") -> str:
        """The last words; the program has to end well."""
        self.child.send(farewell)
        self.child.expect(pexpect.EOF, timeout=SECONDS)
        self.child.close()
        assert self.child.exitstatus == 0
        return plain(self.child.before)

    def kill(self) -> None:
        """As kill -9 does."""
        self.child.kill(9)
        self.child.expect(pexpect.EOF)
        self.child.close()


def plain(text: str) -> str:
    """Without control sequences, also one that has only begun, and without spaces at the ends of lines."""
    text = re.sub(r"\x1b[^a-zA-Z]*$", "", ESCAPES.sub("", text)).replace("\r", "")
    return re.sub(" +\n", "\n", text)
