"""One answer on the terminal: a spinner, thoughts, Markdown as it comes, and how it comes along."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.text import Text

from edgemoe.chat.markdown import BlockStream, ChatMarkdown
from edgemoe.chat.painter import Line, Painter
from edgemoe.chat.printable import printable

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAME_SECONDS = 0.1
_SHARE_OF_TIME = 0.1  # that drawing may take
_SHORTEST_SECONDS = 0.05
_STATUS_SECONDS = 0.25
_END = re.compile(r"(?: |\x1b\[[\d;]*m)+$")  # of a line: spaces, and what changes colours


class View(Protocol):
    """Shows an answer while it comes."""

    def waiting(self, what: str) -> None:
        """Says what is waited for."""

    def think(self, thoughts: str) -> None:
        """All that was thought so far."""

    def answer(self, text: str) -> None:
        """More of the answer."""

    def note(self, message: str) -> None:
        """A line above."""

    def end(self, note: str = "") -> None:
        """Nothing more comes; nothing more changes."""


@dataclass
class _Content:
    """What there is to show; guarded by the view's lock."""

    waiting: str = "waiting for the first token"
    thoughts: str = ""
    thinks: bool = False
    arrived: list[str | Text] = field(default_factory=list)  # not yet taken: parts of the answer, and lines as they are
    ended: bool = False


class LiveView:
    """Draws from a thread of its own, so that waiting for the model does not stop the spinner."""

    def __init__(self, console: Console, status: Callable[[], Sequence[str]], *, thinking_shown: bool) -> None:
        self._console, self._status, self._thinking_shown = console, status, thinking_shown
        self._painter = Painter(self._write)
        self._content, self._lock, self._ending = _Content(), threading.Lock(), threading.Event()
        self._blocks, self._end_note = BlockStream(), ""
        self._begun = self._thought_since = time.monotonic()
        self._has_text = False  # something of the answer is above
        self._status_read, self._status_parts = 0.0, list[str]()
        self._thread = threading.Thread(target=self._run, name="edgemoe-view", daemon=True)
        self._thread.start()

    def waiting(self, what: str) -> None:
        """Says what is waited for."""
        with self._lock:
            self._content.waiting = what

    def think(self, thoughts: str) -> None:
        """All that was thought so far."""
        with self._lock:
            if not self._content.thinks:
                self._thought_since = time.monotonic()
            self._content.thinks, self._content.thoughts = True, printable(thoughts)

    def answer(self, text: str) -> None:
        """More of the answer, which ends the thoughts."""
        with self._lock:
            self._end_thoughts()
            self._content.arrived.append(printable(text))

    def note(self, message: str) -> None:
        """A line above what changes."""
        with self._lock:
            self._content.arrived.append(Text(f"({printable(message)})", style="dim"))

    def end(self, note: str = "") -> None:
        """Nothing more comes; `note` is put below. Returns when everything is on the terminal."""
        with self._lock:
            self._end_thoughts()
            self._content.ended, self._end_note = True, note
        self._ending.set()
        self._thread.join()

    def _end_thoughts(self) -> None:
        if not self._content.thinks:
            return
        self._content.thinks = False
        seconds = time.monotonic() - self._thought_since
        if self._thinking_shown:
            self._content.arrived.append(_thoughts(self._content.thoughts))
        unfold = "" if self._thinking_shown else "; /show thinking unfolds it"
        self._content.arrived.append(Text(f"▸ thought for {seconds:.0f} s{unfold}", style="dim"))

    # The thread

    def _run(self) -> None:
        ended = False
        while not ended:
            started = time.monotonic()
            with self._lock:
                content = replace(self._content)
                self._content.arrived = []
            ended = content.ended
            finished = [line for renderable in self._finished(content) for line in self._spaced(renderable)]
            changing = [] if ended else [*self._unfinished(content), self._status_line(content)]
            self._painter.paint(finished, changing, self._console.width)
            spent = time.monotonic() - started
            self._ending.wait(max(_SHORTEST_SECONDS, spent / _SHARE_OF_TIME))

    def _finished(self, content: _Content) -> list[RenderableType]:
        """What will not change any more."""
        found: list[RenderableType] = []
        for part in content.arrived:
            found += map(ChatMarkdown, self._blocks.feed(part)) if isinstance(part, str) else [part]
        if content.ended:
            found += map(ChatMarkdown, self._blocks.end())
            found += [Text(self._end_note, style="dim")] if self._end_note else []
        return found

    def _spaced(self, renderable: RenderableType) -> list[Line]:
        """Its lines, with an empty one above where something else is there."""
        lines = self._lines(renderable)
        space = [Line("", 0)] if self._has_text and lines else []
        self._has_text = self._has_text or bool(lines)
        return space + lines

    def _unfinished(self, content: _Content) -> list[Line]:
        """What may still change, the last lines of it where the terminal is too low."""
        lines: list[Line] = []
        if content.thinks and self._thinking_shown:
            lines = self._lines(_thoughts(content.thoughts))
        elif self._blocks.open:
            lines = self._lines(ChatMarkdown(self._blocks.open))
        if lines and self._has_text:
            lines = [Line("", 0), *lines]
        lines += [Line("", 0)] if lines else []
        return lines[-max(1, self._console.height - 2) :]

    def _status_line(self, content: _Content) -> Line:
        now = time.monotonic()
        frame = _FRAMES[int(now / _FRAME_SECONDS) % len(_FRAMES)]
        if not content.thinks and not self._blocks.open and not self._has_text:
            return self._line(f"{frame} {now - self._begun:.0f} s · {content.waiting}")
        if now - self._status_read > _STATUS_SECONDS:
            self._status_read, self._status_parts = now, list(self._status())
        words = [f"thinking, {len(content.thoughts.split())} words"] if content.thinks else []
        return self._line(f"{frame} {fitting([*words, *self._status_parts], self._console.width - 3)}")

    def _line(self, text: str) -> Line:
        return next(iter(self._lines(Text(text, style="dim"), whole=True)), Line("", 0))

    def _lines(self, renderable: RenderableType, *, whole: bool = False) -> list[Line]:
        """As they are written; one column is left free, so that the terminal breaks none of them.

        What is `whole` is cut where it is too wide, and otherwise goes on in the next line.
        """
        cut: dict[str, Any] = {"no_wrap": True, "overflow": "ellipsis"} if whole else {}  # print forgets a Text's own
        with self._console.capture() as captured:
            self._console.print(renderable, width=max(10, self._console.width - 1), **cut)
        found = [_stripped(text) for text in captured.get().split("\n")]
        while found and not found[-1].width:
            found.pop()
        while found and not found[0].width:
            found.pop(0)
        return found

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


class PlainView:
    """For terminals that cannot move the cursor: text as it comes, and nothing is drawn over."""

    def __init__(self, console: Console, *, thinking_shown: bool) -> None:
        self._file, self._thinking_shown = console.file, thinking_shown
        self._thought = 0

    def waiting(self, what: str) -> None:
        """Not shown."""

    def think(self, thoughts: str) -> None:
        """Shown as they come, or as a word."""
        if self._thinking_shown:
            self._write(printable(thoughts[self._thought :]))
        elif not self._thought:
            self._write("(thinking; /show thinking unfolds it)")
        self._thought = max(1, len(thoughts))

    def answer(self, text: str) -> None:
        """Shown as it is."""
        if self._thought:
            self._write("\n\n")
            self._thought = 0
        self._write(printable(text))

    def note(self, message: str) -> None:
        """On a line of its own."""
        self._write(f"({printable(message)})\n")

    def end(self, note: str = "") -> None:
        """`note` goes behind the text."""
        self._write(f" {note}\n" if note else "\n")

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()


def fitting(parts: Sequence[str], columns: int) -> str:
    """As many of the parts as fit, the first ones."""
    text = ""
    for part in parts:
        longer = f"{text} · {part}" if text else part
        if cell_len(longer) > columns:
            break
        text = longer
    return text


def _thoughts(thoughts: str) -> Text:
    return Text(thoughts.strip(), style="dim italic")


def _stripped(text: str) -> Line:
    plain = Text.from_ansi(text).plain.rstrip()
    kept = _END.sub(lambda end: end[0].replace(" ", ""), text)  # terminals count the columns of some emoji otherwise
    return Line(plain if text.rstrip() == plain else kept, cell_len(plain))
