"""Drawing tokens from the logits of one sequence, by llama.cpp's own samplers."""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp.llama_cpp as bindings
import numpy as np
import numpy.typing as npt
from llama_cpp._internals import LlamaSampler

from edgemoe.server.errors import RequestError
from edgemoe.server.requests import Sampling

Row = npt.NDArray[np.single]

_ALL_TOKENS = 1 << 17  # more than any answer has
_CANDIDATE = np.dtype([("id", np.intc), ("logit", np.single), ("p", np.single)], align=True)


@dataclass(frozen=True)
class Mark:
    """What a grammar waits for: the answer is free until its text has `text`, and what follows is the grammar's.

    `piece` and `tokens` are the model's: the bytes of a token, special ones included, and the tokens of bytes.
    """

    text: bytes
    piece: Callable[[int], bytes]
    tokens: Callable[[bytes], Sequence[int]]


class Sampler:
    """The samplers that `llama_cpp.Llama` would chain for a request, for a row of logits instead of a context's.

    A `grammar` (in GBNF) is first asked about the token that is drawn without it, as llama.cpp's own programs do, and
    only if it is wrong about every token: with a large vocabulary that takes longer than computing one. With a `mark`
    the grammar is of what follows that.

    Raises:
        RequestError: llama.cpp cannot read the grammar.
    """

    def __init__(
        self,
        model: Any,
        n_vocab: int,
        sampling: Sampling,
        seed: int,
        grammar: str | None = None,
        mark: Mark | None = None,
    ) -> None:
        self._ids = np.arange(n_vocab, dtype=np.intc)
        self._mark = mark  # None when it has come
        self._tail = b""
        self._grammar = _grammar(model, grammar) if grammar is not None else None
        self._chain = LlamaSampler()
        chain = self._chain
        if sampling.logit_bias:
            chain.add_logit_bias(n_vocab, {token: b for token, b in sampling.logit_bias.items() if token < n_vocab})
        chain.add_penalties(
            n_vocab,
            sampling.repeat_last_n if sampling.repeat_last_n >= 0 else _ALL_TOKENS,
            sampling.repeat_penalty,
            sampling.frequency_penalty,
            sampling.presence_penalty,
        )
        if sampling.temperature == 0:
            chain.add_greedy()
            return
        chain.add_top_k(sampling.top_k)
        if sampling.typical_p < 1:
            chain.add_typical(sampling.typical_p)
        chain.add_top_p(sampling.top_p)
        chain.add_min_p(sampling.min_p)
        chain.add_temp(sampling.temperature)
        chain.add_dist(seed)

    def draw(self, row: Row) -> int:
        """The next token. Raises RequestError where the grammar allows none."""
        token = self._selected(row)
        if self._mark is not None:
            self._look_for(self._mark, token)
        elif self._grammar is not None:
            if not _allows(self._grammar, token):
                token = self._selected(_allowed(self._grammar, self._ids, row))
            bindings.llama_sampler_accept(self._grammar, token)
        self._chain.accept(token)
        return token

    def close(self) -> None:
        """Frees what llama.cpp allocated."""
        self._chain.close()
        if self._grammar is not None:
            bindings.llama_sampler_free(self._grammar)
            self._grammar = None

    def __del__(self) -> None:
        if "_chain" in self.__dict__:
            self.close()

    def _look_for(self, mark: Mark, token: int) -> None:
        self._tail = self._tail[-len(mark.text) :] + mark.piece(token)
        _, found, rest = self._tail.partition(mark.text)
        if not found:
            return
        self._mark = None
        for following in mark.tokens(rest) if rest else ():
            if not _allows(self._grammar, following):
                raise RequestError("a call began in a way that its schema does not allow: ask again")
            bindings.llama_sampler_accept(self._grammar, following)

    def _selected(self, row: Row) -> int:
        candidates = np.empty(len(row), dtype=_CANDIDATE)
        candidates["id"], candidates["logit"], candidates["p"] = self._ids, row, 0
        array = _array(candidates)
        bindings.llama_sampler_apply(self._chain.sampler, ctypes.byref(array))
        if not 0 <= array.selected < array.size:
            raise RequestError("no token can follow: the grammar of the schema allows none")
        return int(array.data[array.selected].id)


def fresh_seed() -> int:
    """For a request that names none."""
    return secrets.randbelow(1 << 32)


def _grammar(model: Any, text: str) -> Any:
    sampler = bindings.llama_sampler_init_grammar(model.vocab, text.encode(), b"root")
    if not sampler:
        raise RequestError("llama.cpp cannot use the grammar of this schema: make the schema simpler")
    return sampler


def _allows(grammar: Any, token: int) -> bool:
    one = np.array([(token, 0.0, 0.0)], dtype=_CANDIDATE)
    bindings.llama_sampler_apply(grammar, ctypes.byref(_array(one)))
    return bool(one["logit"][0] != -np.inf)


def _allowed(grammar: Any, ids: npt.NDArray[np.intc], row: Row) -> Row:
    """`row` with minus infinity for what the grammar rules out."""
    candidates = np.empty(len(row), dtype=_CANDIDATE)
    candidates["id"], candidates["logit"], candidates["p"] = ids, row, 0
    bindings.llama_sampler_apply(grammar, ctypes.byref(_array(candidates)))
    found = candidates["logit"].copy()
    if not np.isfinite(found).any():
        raise RequestError("no token can follow: the grammar of the schema allows none")
    return found


def _array(candidates: npt.NDArray[Any]) -> Any:
    """`candidates`, which the caller keeps alive, as llama.cpp sees them."""
    data = candidates.ctypes.data_as(bindings.llama_token_data_p)
    return bindings.llama_token_data_array(data=data, size=len(candidates), selected=-1, sorted=False)


def log_softmax(row: Row) -> Row:
    """Natural logarithms of probabilities."""
    shifted = row - row.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()), np.single)


def likeliest(logprobs: Row, count: int) -> list[int]:
    """The `count` likeliest tokens, the likeliest first."""
    count = min(count, len(logprobs))
    if count == 0:
        return []
    found = np.argpartition(logprobs, -count)[-count:]
    return [int(token) for token in found[np.argsort(-logprobs[found], kind="stable")]]
