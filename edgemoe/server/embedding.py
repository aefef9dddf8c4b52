"""Embeddings, by models that were trained for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemoe.errors import EdgeMoEError
from edgemoe.packs.summary import open_model
from edgemoe.server.errors import RequestError, TooLong
from edgemoe.server.snapshot import ModelState
from edgemoe.server.tokens import Tokenizer

if TYPE_CHECKING:
    from edgemoe.llama import Llama

_POOLINGS = (1, 2, 3)
"""Of `ARCHITECTURE.pooling_type`, as llama.cpp numbers them: mean, first token, last token."""


@dataclass(frozen=True)
class Embedded:
    """Vectors of texts, in order, and how many tokens the texts have."""

    model: str
    vectors: list[list[float]]
    tokens: int


def makes_embeddings(path: str | Path) -> bool:
    """Whether a model file says that its tokens are pooled to one vector."""
    metadata = open_model(path).metadata()
    return metadata.get(f"{metadata.get('general.architecture')}.pooling_type") in _POOLINGS


class Embedder:
    """A loaded embedding model. It computes one request at a time; `close` waits for that."""

    def __init__(self, llm: Llama) -> None:
        """`llm` was opened with embedding=True."""
        self.llm = llm
        self.last_used = time.monotonic()
        self._lock = threading.Lock()
        self._closed = False
        self._asked = 0

    @property
    def dimensions(self) -> int:
        """Of a vector."""
        return int(self.llm.n_embd())

    def embed(
        self, texts: Sequence[str | list[int]], *, truncate: bool = False, most: int | None = None
    ) -> tuple[list[list[float]], int]:
        """Vectors of length 1, and the number of tokens.

        With `truncate` only the first tokens of a text that is too long count. `most` tokens are taken, where the model
        takes more.

        Raises:
            TooLong: a text has more tokens than are taken.
        """
        words = [t if isinstance(t, str) else self.llm.detokenize(t).decode("utf-8", "replace") for t in texts]
        self._asked += 1
        try:
            with self._lock:
                if self._closed:
                    raise EdgeMoEError("the model was unloaded: try again")
                limit = min(self.llm.n_batch, most) if most is not None and most > 0 else self.llm.n_batch
                words = [self._within(word, limit, truncate) for word in words]
                vectors, tokens = self.llm.embed(words, normalize=True, truncate=False, return_count=True)
        finally:
            self._asked -= 1
            self.last_used = time.monotonic()
        return [[float(value) for value in vector] for vector in vectors], tokens

    def _within(self, text: str, limit: int, truncate: bool) -> str:
        """`text`, or what its first `limit` tokens say."""
        tokens = Tokenizer(self.llm, self.llm.n_batch, "input").tokenize(text.encode("utf-8", "replace"))
        if not tokens:
            raise RequestError("a text is empty", param="input")
        if len(tokens) <= limit:
            return text
        if not truncate:
            raise TooLong(f"a text has {len(tokens)} tokens, and the model takes {limit}: shorten it", param="input")
        kept = limit
        while kept > 0:  # a text that is cut may have more tokens than were left of it
            cut = self.llm.detokenize(tokens[:kept]).decode("utf-8", "ignore")
            if len(self.llm.tokenize(cut.encode())) <= limit:
                return str(cut)
            kept -= 1
        raise TooLong(f"{limit} tokens are too few for any text: ask for more", param="input")

    def stats(self) -> Any:
        """The model's counters."""
        return self.llm.stats()

    def set_memory(self, memory: int | str | None) -> None:
        """Changes the budget, as `Llama.set_memory`."""
        self.llm.set_memory(memory)

    def describe(self, state: ModelState) -> ModelState:
        """`state` with what only a loaded model has."""
        waiting = max(0, self._asked - 1)
        return replace(
            state,
            parallel=1,
            ctx=self.llm.n_batch,
            active=self._asked - waiting,
            waiting=waiting,
            idle_seconds=None if self._asked else time.monotonic() - self.last_used,
            stats=self.llm.stats(),
            resident_bits=self.llm.resident_bits(),
        )

    @property
    def works(self) -> bool:
        """Whether it can compute."""
        return not self._closed

    def end(self) -> None:
        """Nothing is computed from now on."""
        self._closed = True
        self.llm.cancel()

    def close(self) -> None:
        """Unloads the model."""
        self.end()
        with self._lock:
            self.llm.close()
