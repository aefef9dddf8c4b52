"""Ctrl-C and what is typed while an answer comes."""

from __future__ import annotations

import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def one_interrupt() -> Iterator[None]:
    """The first Ctrl-C raises KeyboardInterrupt; those after it do nothing, so that what it began can be ended."""
    pressed = False

    def interrupt(_: int, __: FrameType | None) -> None:
        nonlocal pressed
        if not pressed:
            pressed = True
            raise KeyboardInterrupt

    before: Any = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
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
