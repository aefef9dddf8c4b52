"""The bytes of a model's tokens, and which of them end an answer."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp.llama_cpp as bindings

_USUAL_BYTES = 32


class Vocabulary:
    """Of a loaded model. Threads may share it."""

    def __init__(self, llm: Any, *, special: bool = False) -> None:
        """With `special`, special tokens have their names as pieces."""
        self._vocab = llm._model.vocab
        self._special = special
        self._pieces: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}

    def piece(self, token: int) -> bytes:
        """What `token` adds to a text: nothing for a special one, unless these were asked for."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._read(token, _USUAL_BYTES)
        return found

    def ends(self, token: int) -> bool:
        """Whether an answer ends with `token`."""
        found = self._ends.get(token)
        if found is None:
            found = self._ends[token] = bool(bindings.llama_vocab_is_eog(self._vocab, token))
        return found

    def _read(self, token: int, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        length = bindings.llama_token_to_piece(self._vocab, token, buffer, size, 0, self._special)
        return self._read(token, -length) if length < 0 else buffer.raw[:length]
