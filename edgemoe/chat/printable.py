"""What may go to a terminal of what a model says."""

from __future__ import annotations

_CONTROL = {code: None for code in (*range(32), 127, *range(128, 160)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """`text` without the control characters with which a model's output could drive a terminal."""
    return text.translate(_CONTROL)
