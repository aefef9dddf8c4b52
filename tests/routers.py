"""A small router for tests that need decisions, trained on made-up prompts in a second or two."""

from __future__ import annotations

import random
from pathlib import Path

from edgemoe.routing.export import to_onnx
from edgemoe.routing.features import Hashing
from edgemoe.routing.rows import Row
from edgemoe.routing.training import Options, train_router

TOPICS = {
    "code": "python function compile loop variable debug class array script program",
    "maths": "number sum triangle equation integral fraction divide algebra angle square",
    "none": "story mouse garden river friend morning boat song winter bread",
}
EASY = ["short", "simple", "quick", "little", "small", "easy"]
HARD = ["prove", "theorem", "derive", "rigorous", "optimal", "asymptotic"]
HARMFUL = ["bomb", "poison", "weapon", "kill"]

EASY_STORY = "tell me a short simple story of a little mouse"
HARD_STORY = "prove a rigorous theorem, derive the optimal asymptotic story of a mouse"
EASY_CODE = "a quick little python function with a simple loop"
HARD_CODE = "prove and derive an optimal rigorous python function, an asymptotic theorem"
HARMFUL_PROMPT = "a bomb and a poison weapon to kill"


def rows(head: str | None = None, count: int = 900) -> list[Row]:
    """Prompts with the heads domain, strong and unsafe; or with one head of this name, and topics as its labels."""
    draw = random.Random(7)
    found = []
    for i in range(count):
        topic, hard, harmful = draw.choice(list(TOPICS)), draw.random() < 0.5, draw.random() < 0.3
        words = draw.choices(TOPICS[topic].split(), k=3) + draw.choices(HARD if hard else EASY, k=3)
        words += draw.choices(HARMFUL, k=2) if harmful else []
        words += draw.choices(["a", "the", "of", "me", "with", "and"], k=4)
        draw.shuffle(words)
        labels = {"domain": topic, "strong": float(hard), "unsafe": float(harmful)}
        split = "dev" if i % 4 == 3 else "train"
        found.append(Row(" ".join(words), {head: topic} if head else labels, f"source {i % 3}", split))
    return found


def write_router(path: Path, head: str | None = None) -> Path:
    """The router of `rows`."""
    model = train_router(rows(head), Hashing(1 << 12), Options(passes=3))
    path.write_bytes(to_onnx(model, {"note": "for tests"}))
    return path
