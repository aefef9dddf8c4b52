"""Ctrl-C and what is typed while an answer comes."""

from __future__ import annotations

import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupts:
    """What Ctrl-C does meanwhile: the first one raises KeyboardInterrupt where that is expected, later ones nothing."""

    def __init__(self) -> None:
        self._pressed = self._due = self._expected = False

    def press(self, _: int, __: FrameType | None) -> None:
        """The handler of the signal."""
        if self._pressed:
            return
        self._pressed = True
        if self._expected:
            raise KeyboardInterrupt
        self._due = True

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Inside, Ctrl-C raises; at the beginning, when it came before."""
        self._expected = True
        try:
            if self._due:
                self._due = False
                raise KeyboardInterrupt
            yield
        finally:
            self._expected = False


@contextmanager
def one_interrupt() -> Iterator[Interrupts]:
    """Takes Ctrl-C, so that what the first one stops can be ended."""
    interrupts = Interrupts()
    before: Any = signal.signal(signal.SIGINT, interrupts.press)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def keyboard(*, shown: bool) -> Iterator[None]:
    """Whether what is typed appears. What is not read is there for the next prompt."""
    changed = _echo(on=shown)
    try:
        yield
    finally:
        if changed:
            _echo(on=not shown)


def _echo(*, on: bool) -> bool:
    """Whether anything changed."""
    try:
        modes = termios.tcgetattr(sys.stdin.fileno())
        was = bool(modes[3] & termios.ECHO)
        modes[3] = modes[3] | termios.ECHO if on else modes[3] & ~termios.ECHO
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, modes)
    except (termios.error, ValueError, OSError):
        return False
    return was != on
