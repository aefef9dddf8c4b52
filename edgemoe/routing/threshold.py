"""From which probability on prompts go to the strong model: for a share of them, or for what a budget pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgemoe.errors import EdgeMoEError
from edgemoe.routing.router import STRONG, Router

CHARACTERS_PER_TOKEN = 4
"""Of English prompts, roughly; prices are guesses before the answer is there in any case."""


@dataclass(frozen=True)
class Threshold:
    """Prompts whose probability is not below `value` go to the strong model: `share` of `prompts` do.

    `cost` is what a prompt costs on average, those that stay local included.
    """

    value: float
    share: float
    prompts: int
    cost: float = 0.0


@dataclass(frozen=True)
class Prices:
    """Of a million tokens; an answer is taken to have `answer_tokens`."""

    input_price: float
    output_price: float
    answer_tokens: int

    def of(self, prompt: str) -> float:
        """What a strong model's answer to a prompt costs."""
        tokens = len(prompt) / CHARACTERS_PER_TOKEN
        return (tokens * self.input_price + self.answer_tokens * self.output_price) / 1e6


def probabilities(router: Router, prompts: Sequence[str]) -> list[float]:
    """That each prompt needs a strong model. Raises EdgeMoEError for a router that does not say so, and no prompts."""
    if STRONG not in router.labels:
        raise EdgeMoEError(f"{router.path} has no head {STRONG}, only {', '.join(router.labels)}: use another router")
    if not prompts:
        raise EdgeMoEError('there are no prompts to calibrate with: write {"text": ...} on each line')
    return [router.classify(prompt).strong_probability or 0.0 for prompt in prompts]


def for_share(scores: Sequence[float], share: float, costs: Sequence[float] | None = None) -> Threshold:
    """The threshold that sends `share` of prompts to the strong model; of equal scores all or none are sent."""
    return _cut(scores, costs, round(share * len(scores)))


def for_cost(scores: Sequence[float], costs: Sequence[float], allowed: float) -> Threshold:
    """The lowest threshold with which a prompt costs at most `allowed` on average."""
    spent = np.cumsum(np.asarray(costs)[_order(scores)]) / len(scores)
    return _cut(scores, costs, int(np.searchsorted(spent, allowed * (1 + 1e-9), side="right")))


def _order(scores: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.argsort(-np.asarray(scores), kind="stable")


def _cut(scores: Sequence[float], costs: Sequence[float] | None, count: int) -> Threshold:
    order = _order(scores)
    falling = [1.0, *(float(scores[i]) for i in order.tolist())]
    while 0 < count < len(scores) and falling[count] == falling[count + 1]:
        count -= 1
    cost = float(np.asarray(costs)[order[:count]].sum()) / len(scores) if costs is not None else 0.0
    value = float(count == 0)
    if 0 < count < len(scores):
        value = _between(falling[count + 1], falling[count])
    return Threshold(value, count / len(scores), len(scores), cost)


def _between(low: float, high: float) -> float:
    """A short decimal that is above `low` and not above `high`."""
    for digits in range(2, 17):
        middle = round((low + high) / 2, digits)
        if low < middle <= high:
            return middle
    return high
