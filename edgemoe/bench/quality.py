"""How well a model predicts a text, and how far its predictions are from another model's.

The rule: the text is tokenized as a whole, with special tokens recognised, and cut into windows of `n_ctx` tokens; an
incomplete last window is left out unless it is the only one. Each window is evaluated alone. Its first half only gives
context; the predictions of the tokens in its second half count. Where the model wants a begin-of-sequence token, that
takes the place of each window's first token. This is the rule of llama.cpp's `llama-perplexity`, except that special
tokens in the text are recognised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgemoe.errors import EdgeMoEError

Row = npt.NDArray[np.single]

STEP = 32
"""Tokens evaluated at once: their logits are in memory together. No budget makes batches smaller than this, and the
size of a batch changes roundings, so figures do not depend on the budget."""


@dataclass(frozen=True)
class Quality:
    """Of `tokens` predictions in `windows` windows. The figures from `kl_divergence` on need a reference model.

    `kl_divergence` is the mean over predictions of KL(reference || model) in nats, `top_agreement` the share of
    predictions whose likeliest token is the same.
    """

    n_ctx: int
    windows: int
    tokens: int
    perplexity: float
    perplexity_error: float
    """Standard error of `perplexity`."""
    reference_perplexity: float | None = None
    perplexity_change: float | None = None
    """Perplexity over the reference's, minus 1."""
    perplexity_change_error: float | None = None
    """Its standard error: the same predictions are compared, so it is smaller than that of either perplexity."""
    kl_divergence: float | None = None
    kl_divergence_max: float | None = None
    top_agreement: float | None = None


def tokenize(llm: Any, text: str, limit: int | None = None) -> list[int]:
    """The first `limit` tokens of `text`."""
    tokens: list[int] = llm.tokenize(text.encode(), add_bos=False, special=True)
    return tokens[:limit]


def measure_quality(
    llm: Any,
    tokens: Sequence[int],
    *,
    n_ctx: int,
    reference: Any | None = None,
    step: int = STEP,
    progress: Callable[[int, int], None] | None = None,
) -> Quality:
    """Score `llm` on `tokens`, against `reference` if given. Both are opened with `logits_all=True`.

    `step` tokens are evaluated at once; 1 is how text is generated, and what a quality target then waits for is what it
    waits for there. `progress` is told the windows done and their number.

    Raises:
        EdgeMoEError: when there are fewer than two tokens, or the models have different vocabularies.
    """
    if len(tokens) < 2:
        raise EdgeMoEError(f"the text has {len(tokens)} tokens: at least two are needed to predict one")
    if reference is not None and llm.n_vocab() != reference.n_vocab():
        raise EdgeMoEError(
            f"the models have different vocabularies ({llm.n_vocab()} and {reference.n_vocab()} tokens): "
            "their predictions cannot be compared"
        )
    windows = list(_windows(tokens, n_ctx))
    losses = _Mean()
    divergence = _Divergence() if reference is not None else None
    for number, window in enumerate(windows, 1):
        others = _predictions(reference, window, STEP) if reference is not None else None
        for target, row in _predictions(llm, window, step):
            log_p = _log_softmax(row)
            losses.add(-float(log_p[target]))
            if divergence is not None and others is not None:
                divergence.add(log_p, _log_softmax(next(others)[1]), target)
        if progress:
            progress(number, len(windows))
    perplexity = math.exp(losses.mean)
    return Quality(
        n_ctx=len(windows[0]),
        windows=len(windows),
        tokens=losses.count,
        perplexity=perplexity,
        perplexity_error=perplexity * losses.standard_error,
        **(divergence.result() if divergence else {}),
    )


def _windows(tokens: Sequence[int], n_ctx: int) -> Iterator[Sequence[int]]:
    size = min(n_ctx, len(tokens))
    return (tokens[start : start + size] for start in range(0, len(tokens) - size + 1, size))


def _predictions(llm: Any, window: Sequence[int], step: int) -> Iterator[tuple[int, Row]]:
    """(token that follows, logits) for the positions of the window's second half, `step` tokens evaluated at once."""
    tokens = list(window)
    if _wants_bos(llm):
        tokens[0] = llm.token_bos()
    first = len(tokens) // 2 if len(tokens) > 2 else 0
    llm.reset()
    for start in range(0, len(tokens), step):
        block = tokens[start : start + step]
        llm.eval(block)
        for position in range(max(start, first), min(start + len(block), len(tokens) - 1)):
            yield tokens[position + 1], llm.scores[position]
        if forget := getattr(llm.scores, "forget_from", None):
            forget(0)


def _wants_bos(llm: Any) -> bool:
    plain = llm.tokenize(b"a", add_bos=False)
    return len(llm.tokenize(b"a", add_bos=True)) > len(plain)


def _log_softmax(row: Row) -> npt.NDArray[np.double]:
    shifted = row.astype(np.double)
    shifted -= shifted.max()
    shifted -= math.log(np.exp(shifted).sum())
    return shifted


class _Mean:
    """Mean and its standard error of numbers that are not kept."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self._sum += value
        self._squares += value * value

    @property
    def mean(self) -> float:
        return self._sum / self.count

    @property
    def standard_error(self) -> float:
        variance = max(0.0, self._squares / self.count - self.mean**2)
        return math.sqrt(variance / max(1, self.count - 1))


class _Divergence:
    """Distance of a model's predictions from a reference's."""

    def __init__(self) -> None:
        self._losses = _Mean()
        self._divergences = _Mean()
        self._largest = 0.0
        self._agreements = _Mean()
        self._differences = _Mean()

    def add(self, log_p: npt.NDArray[np.double], log_reference: npt.NDArray[np.double], target: int) -> None:
        # The sum cannot be negative; rounding can make it so.
        divergence = max(0.0, float(np.exp(log_reference) @ (log_reference - log_p)))
        self._losses.add(-float(log_reference[target]))
        self._differences.add(float(log_reference[target] - log_p[target]))
        self._divergences.add(divergence)
        self._largest = max(self._largest, divergence)
        self._agreements.add(float(log_p.argmax() == log_reference.argmax()))

    def result(self) -> dict[str, Any]:
        return {
            "reference_perplexity": math.exp(self._losses.mean),
            "perplexity_change": math.expm1(self._differences.mean),
            "perplexity_change_error": math.exp(self._differences.mean) * self._differences.standard_error,
            "kl_divergence": self._divergences.mean,
            "kl_divergence_max": self._largest,
            "top_agreement": self._agreements.mean,
        }
