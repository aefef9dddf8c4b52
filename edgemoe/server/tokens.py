"""Texts become tokens, as long as they can fit: while they do, they take fifty times their memory."""

from __future__ import annotations

import threading
from typing import Any

from edgemoe.server.errors import TooLong

_LONGEST = 32
"""Bytes that a token of a long text has at the most, on average: of English it has four, of code three."""
_LONG = 1 << 16
_one_at_a_time = threading.Lock()


class Tokenizer:
    """A model whose texts have to fit into `ctx` tokens; `param` is the field that they come in."""

    def __init__(self, llm: Any, ctx: int, param: str) -> None:
        self._llm, self._ctx, self._param = llm, ctx, param

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    def check(self, size: int) -> None:
        """Raises TooLong where a text of `size` bytes cannot fit, however its words are cut."""
        if size > self._ctx * _LONGEST:
            message = f"the text has {size} bytes, which are more than {self._ctx} tokens: shorten it"
            raise TooLong(message, param=self._param)

    def tokenize(self, text: bytes, *arguments: Any, **options: Any) -> list[int]:
        """As that of a `Llama`.

        Raises:
            TooLong: the text cannot fit.
        """
        self.check(len(text))
        if len(text) < _LONG:
            return list(self._llm.tokenize(text, *arguments, **options))
        with _one_at_a_time:
            return list(self._llm.tokenize(text, *arguments, **options))
