"""Where the chat prints, also while an answer is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgemoe.chat.keyboard import keyboard
from edgemoe.chat.markdown import ChatMarkdown
from edgemoe.chat.printable import printable
from edgemoe.chat.view import LiveView, PlainView, View

if TYPE_CHECKING:
    from rich.console import Console

_LEAST_ROOM = 24  # columns, for values that are longer


class Screen:
    """A console, and the view of the answer that comes, if one does.

    Attributes:
        view: the present one's; inside of `answering`.
    """

    view: View

    def __init__(self, console: Console) -> None:
        self.console = console
        self._open: Callable[[], View] | None = None

    @property
    def moves_cursor(self) -> bool:
        """Whether lines can be drawn over."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    @contextmanager
    def answering(self, status: Callable[[], Sequence[str]], *, thinking_shown: bool) -> Iterator[None]:
        """Opens a view; whoever ends it says how."""
        if self.moves_cursor:
            self._open = lambda: LiveView(self.console, status, thinking_shown=thinking_shown)
        else:
            self._open = lambda: PlainView(self.console, thinking_shown=thinking_shown)
        self.view = self._open()
        try:
            with keyboard(shown=False):
                yield
        finally:
            self._open = None

    def note(self, message: str) -> None:
        """Something that the user should know."""
        if self._open is not None:
            self.view.note(message)
        else:
            self.say(f"({message})")

    def waiting(self, what: str) -> None:
        """What takes time before the answer comes."""
        if self._open is not None:
            self.view.waiting(what)

    def ask(self, question: str) -> bool:
        """A question to be answered by y or n."""
        if self._open is not None:
            self.view.end()
        try:
            with keyboard(shown=True):
                said = input(question)
        except EOFError:
            said = ""
        if self._open is not None:
            self.view = self._open()
        return said.strip().lower() in ("y", "yes")

    def say(self, text: str, style: str = "dim") -> None:
        """A line of the program's."""
        self.console.print(printable(text), style=style, markup=False, highlight=False)

    def rows(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and values; below each other where a value would have little room."""
        width = max((len(name) for name, _ in rows), default=0)
        longest = max((cell_len(value) for _, value in rows), default=0)
        if width + 4 + min(longest, _LEAST_ROOM) > self.console.width:
            for name, value in rows:
                self.say(name, style="bold")
                self.console.print(Padding(Text(printable(value)), (0, 0, 0, 2)))
            return
        grid = Table.grid(padding=(0, 2))
        grid.add_column(min_width=width + 2)
        grid.add_column()
        for name, value in rows:
            grid.add_row(Text(f"  {printable(name)}", style="bold"), Text(printable(value)))
        self.console.print(grid)

    def markdown(self, text: str) -> None:
        """A text of the conversation."""
        safe = printable(text)
        if self.moves_cursor:
            self.console.print(ChatMarkdown(safe))
        else:
            self.console.print(safe, markup=False, highlight=False, soft_wrap=True)
