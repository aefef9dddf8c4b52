"""From which probability on prompts go to the strong model: for a share of them, or for what a budget pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgemoe.cloud import Endpoint, estimated_usage
from edgemoe.config import CloudModel, Config
from edgemoe.config.settings import CLOUD
from edgemoe.errors import EdgeMoEError
from edgemoe.routing.learner import Learner
from edgemoe.routing.messages import messages_of
from edgemoe.routing.policy import Facts, escalation, needed
from edgemoe.routing.router import STRONG, Router


@dataclass(frozen=True)
class Threshold:
    """Prompts whose probability is not below `value` go to the strong model: `share` of `prompts` do.

    `cost` is what a prompt costs on average, those that stay local included.
    """

    value: float
    share: float
    prompts: int
    cost: float = 0.0


def priced(config: Config, input_price: float | None, output_price: float | None) -> Config:
    """With other prices for every endpoint, where they are not None; with an endpoint, where there is none."""
    prices: dict[str, Any] = {"input_price": input_price, "output_price": output_price}
    prices = {name: price for name, price in prices.items() if price is not None}
    cloud = config.cloud or {CLOUD: CloudModel(CLOUD, Endpoint(CLOUD, "https://localhost", CLOUD))}
    changed = {name: replace(m, endpoint=replace(m.endpoint, **prices)) for name, m in cloud.items()}
    return replace(config, cloud=changed)


def weighed(config: Config, router: Router, prompts: Sequence[str]) -> tuple[list[float], list[float]]:
    """For each prompt what the policy compares with the threshold, and what the answer of the best endpoint costs.

    The first is the probability that more is needed than the local model that would answer (its `ability` counts), as
    feedback has corrected it.

    Raises:
        EdgeMoEError: for a router that does not say what needs a strong model, and for no prompts.
    """
    if STRONG not in router.labels:
        raise EdgeMoEError(f"{router.path} has no head {STRONG}, only {', '.join(router.labels)}: use another router")
    if not prompts:
        raise EdgeMoEError('there are no prompts to calibrate with: write {"text": ...} on each line')
    config = replace(config, private=False)
    learner = Learner(config, router)
    scores, costs = [], []
    for prompt in prompts:
        found = router.classify(prompt)
        tokens = estimated_usage(messages_of(prompt), "").prompt_tokens
        facts = Facts(found.choices, found.scores, prompt_tokens=tokens, answer_tokens=config.answer_tokens)
        score = needed(config, facts) or 0.0
        learned = learner.strong(prompt, score) if config.cloud else None
        scores.append(score if learned is None else learned)
        instead = escalation(config, facts)
        costs.append(instead.cost if instead else 0.0)
    return scores, costs


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
