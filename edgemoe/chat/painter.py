"""The lines at the bottom of a terminal that change while an answer comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

_UP, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[{}A", "\x1b[K", "\x1b[J"


@dataclass(frozen=True)
class Line:
    """A line with its colours, and how many columns it takes; fewer than the terminal has."""

    text: str
    width: int


class Painter:
    """Draws lines over those that it drew before, and writes only what differs: nothing flickers.

    The cursor stands behind the last line that it drew.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._shown: list[Line] = []

    def paint(self, finished: Sequence[Line], changing: Sequence[Line], columns: int) -> None:
        """Lines that stay for good, and below them those that the next call draws over."""
        lines = [*finished, *changing]
        if not finished and lines == self._shown:
            return
        same = self._same(lines, columns)
        text = self._back_to(same, columns)
        text += f"{_CLEAR_LINE}\n".join(line.text for line in lines[same:]) + _CLEAR_BELOW
        self._shown = list(changing)
        self._write(text + ("\n" if finished and not changing else ""))

    def _same(self, lines: Sequence[Line], columns: int) -> int:
        """How many lines stay as they are; fewer than are shown and than there will be."""
        if any(line.width > columns for line in self._shown):  # the terminal became narrower and broke them
            return 0
        same, most = 0, min(len(self._shown), len(lines)) - 1
        while same < most and self._shown[same] == lines[same]:
            same += 1
        return same

    def _back_to(self, index: int, columns: int) -> str:
        """Moves to the beginning of the line `index` of those shown."""
        rows = sum(max(1, -(-line.width // columns)) for line in self._shown[index:]) - 1
        return "\r" + (_UP.format(rows) if rows > 0 else "")
