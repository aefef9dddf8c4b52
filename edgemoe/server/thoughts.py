"""What a model thinks before its answer, as pieces of their own."""

from __future__ import annotations

from dataclasses import replace

from edgemoe.server.requests import Piece
from edgemoe.thinking import ThinkingFilter


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
