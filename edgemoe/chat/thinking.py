"""Tells what a model thinks from what it answers, while it comes."""

from __future__ import annotations

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
        thoughts: what was thought so far.
        answering: whether the answer has begun, after which there are no more thoughts.
    """

    def __init__(self, closing_tag: str | None = None) -> None:
        """`closing_tag` is given where the prompt has opened a block already."""
        self.thoughts = ""
        self._closing_tag = closing_tag
        self.answering = False
        self._held = ""

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
            self.thoughts += held
            return ""
        return held if self.answering else held.lstrip()

    def _begin(self) -> bool:
        """Looks for a tag before anything was answered; False: more has to come."""
        text = self._held.lstrip()
        for opening, closing in TAGS.items():
            if text.startswith(opening):
                self._held, self._closing_tag = text[len(opening) :], closing
                if self.thoughts:
                    self.thoughts += "\n\n"
                return True
        if any(opening.startswith(text) for opening in TAGS):  # nothing but white space, too
            return False
        self._held, self.answering = text, True
        return True

    def _think(self, closing: str) -> bool:
        thought, found, rest = self._held.partition(closing)
        if found:
            self.thoughts, self._held, self._closing_tag = (self.thoughts + thought).strip(), rest, None
            return True
        kept = next(
            n for n in range(min(len(closing), len(thought)), -1, -1) if closing.startswith(thought[len(thought) - n :])
        )
        self.thoughts += thought[: len(thought) - kept]
        self._held = thought[len(thought) - kept :]
        return False


def opened_by_prompt(llm: Any) -> str | None:
    """The closing tag that an answer begins inside of, where the model's template opens a block of thoughts itself."""
    tokens = prompt_tokens(llm, [{"role": "user", "content": "Hello."}])
    end = llm.detokenize(tokens[-16:], special=True).decode(errors="replace").rstrip()
    return next((closing for opening, closing in TAGS.items() if end.endswith(opening)), None)


def split_thoughts(text: str, closing_tag: str | None) -> tuple[str, str]:
    """What was thought and what was answered in a whole answer; `closing_tag` as for ThinkingFilter."""
    inside = closing_tag is not None and closing_tag in text
    thinking = ThinkingFilter(closing_tag if inside else None)
    answer = thinking.feed(text) + thinking.end()
    return thinking.thoughts.strip(), answer
