"""Tells what a model thinks from what it answers, while it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgemoe.conversation import prompt_tokens

TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
}
"""What opens and closes a block of thoughts. One opens at the start of an answer, or behind another block."""


class ThinkingFilter:
    """Takes the pieces of an answer, and keeps the thoughts apart.

    Attributes:
        thoughts: what was thought so far, without white space around it; it only grows.
        answering: whether the answer has begun, after which there are no more thoughts.
    """

    def __init__(self, closing_tag: str | None = None) -> None:
        """`closing_tag` is given where the prompt has opened a block already."""
        self.thoughts = ""
        self._closing_tag = closing_tag
        self.answering = False
        self._held = ""
        self._space = ""  # behind the thoughts so far

    def feed(self, piece: str) -> str:
        """The part of the answer that `piece` adds; what may be the beginning of a tag is held back."""
        self._held += piece
        while not self.answering:
            if not (self._think(self._closing_tag) if self._closing_tag else self._begin()):
                return ""
        answer, self._held = self._held, ""
        return answer

    def end(self) -> str:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, ""
        if self._closing_tag is not None:
            self._add(held)
            return ""
        return held if self.answering else held.lstrip()

    def _begin(self) -> bool:
        """Looks for a tag before anything was answered; False: more has to come."""
        text = self._held.lstrip()
        for opening, closing in TAGS.items():
            if text.startswith(opening):
                self._held, self._closing_tag = text[len(opening) :].lstrip(), closing
                self._space = "\n\n"
                return True
        if any(opening.startswith(text) for opening in TAGS):  # nothing but white space, too
            return False
        self._held, self.answering = text, True
        return True

    def _think(self, closing: str) -> bool:
        thought, found, rest = self._held.partition(closing)
        if found:
            self._add(thought)
            self._held, self._closing_tag = rest, None
            return True
        kept = next(
            n for n in range(min(len(closing), len(thought)), -1, -1) if closing.startswith(thought[len(thought) - n :])
        )
        self._add(thought[: len(thought) - kept])
        self._held = thought[len(thought) - kept :]
        return False

    def _add(self, thought: str) -> None:
        found = self._space + thought
        found = found if self.thoughts else found.lstrip()
        seen = found.rstrip()
        self.thoughts += seen
        self._space = found[len(seen) :]


def opened_by_prompt(llm: Any) -> str | None:
    """The closing tag that an answer begins inside of, where the model's template opens a block of thoughts itself."""
    return opened_by(llm, prompt_tokens(llm, [{"role": "user", "content": "Hello."}]))


def opened_by(llm: Any, tokens: Sequence[int]) -> str | None:
    """As `opened_by_prompt`, for an answer to the prompt `tokens`."""
    end = llm.detokenize(list(tokens[-16:]), special=True).decode(errors="replace").rstrip()
    return next((closing for opening, closing in TAGS.items() if end.endswith(opening)), None)


def split_thoughts(text: str, closing_tag: str | None) -> tuple[str, str]:
    """What was thought and what was answered in a whole answer; `closing_tag` as for ThinkingFilter."""
    inside = closing_tag is not None and closing_tag in text
    thinking = ThinkingFilter(closing_tag if inside else None)
    answer = thinking.feed(text) + thinking.end()
    return thinking.thoughts.strip(), answer
