"""What people say to a storyteller, and its short answers; all written for this model, in phrases.txt."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

# Kinds of small talk: requests, answers, and how often they come.
TALK = (
    ("hello", "hello_answer", 22),
    ("who", "who_answer", 16),
    ("can", "can_answer", 14),
    ("edgemoe", "edgemoe_answer", 14),
    ("thanks", "thanks_answer", 10),
    ("bye", "bye_answer", 6),
    ("other", "other_answer", 12),
    ("unknown", "other_answer", 6),
)
_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")


def draw(section: str, rng: random.Random) -> str:
    """A line of a section, with one of each group of alternatives."""
    return _CHOICE.sub(lambda found: rng.choice(found[1].split("|")), rng.choice(sections()[section]))


@cache
def sections() -> dict[str, tuple[str, ...]]:
    """Of the file, by name."""
    blocks = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").split("\n[")[1:]
    lines = {name: body.split("\n") for name, body in (block.split("]\n", 1) for block in blocks)}
    return {name: tuple(line for line in found if line) for name, found in lines.items()}
