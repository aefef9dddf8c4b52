"""What a model thinks before its answer, as pieces of their own."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from edgemoe.server.errors import RequestError
from edgemoe.server.requests import Piece, Thinking
from edgemoe.thinking import TAGS, ThinkingFilter

_SWITCH, _EFFORT = "enable_thinking", "reasoning_effort"
"""What chat templates call whether, and how hard, the model is to think."""


class ThoughtReader:
    """Tells thoughts from text; each piece that it gives has one of them."""

    def __init__(self, closing_tag: str | None) -> None:
        """`closing_tag` is given where the prompt has opened a block of thoughts."""
        self._thinking = ThinkingFilter(closing_tag)

    def read(self, piece: Piece) -> list[Piece]:
        """The pieces that `piece` becomes; none where the end of a tag has to come first."""
        known = len(self._thinking.thoughts)
        text = self._thinking.feed(piece.text)
        if piece.finish_reason is not None:
            text += self._thinking.end()
        thought = self._thinking.thoughts[known:]
        rest = replace(piece, text=text)
        return [*([Piece(thought=thought)] if thought else []), *([rest] if rest != Piece() else [])]


def told_to_think(llm: Any, asked: Thinking | None) -> Any:
    """`llm`, whose chat template is told what is `asked` of thinking.

    Raises:
        RequestError: it cannot be told, and does not so by itself.
    """
    if asked is None:
        return llm
    template = llm.metadata.get("tokenizer.chat_template", "")
    if isinstance(asked.wanted, str):
        if _EFFORT in template:
            return _Told(llm, {_EFFORT: asked.wanted})
        raise _untold(asked, "knows no efforts")
    if _SWITCH in template:
        return _Told(llm, {_SWITCH: asked.wanted})
    thinks = any(tag in template for tags in TAGS.items() for tag in tags) or _EFFORT in template
    if thinks == asked.wanted:
        return llm
    raise _untold(asked, "has no switch to think less" if thinks else "knows no thoughts")


def _untold(asked: Thinking, why: str) -> RequestError:
    message = f"{asked.field}: {asked.wanted!r} cannot be used: the model's chat template {why}; leave it out"
    return RequestError(message, param=asked.field)


class _Told:
    """A model whose chat template gets `arguments` beside the messages."""

    def __init__(self, llm: Any, arguments: dict[str, Any]) -> None:
        from llama_cpp.llama_chat_format import get_chat_completion_handler

        handler = llm.chat_handler or llm._chat_handlers.get(llm.chat_format)
        self.chat_handler = partial(handler or get_chat_completion_handler(llm.chat_format), **arguments)
        self._llm = llm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)
