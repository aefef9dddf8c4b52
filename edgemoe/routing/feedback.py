"""Learning from feedback who answers which prompts well: a contextual bandit with the offline router as its prior.

LinUCB (Li et al. 2010, arXiv 1003.0146) with a prior and a cost budget, after PILOT (Panda et al. 2025, arXiv
2508.21141). A route's answer to a prompt is expected to be worth what the offline weights say plus what rated answers
have taught (`regression`); its upper confidence bound adds ALPHA times the deviation. So without feedback the offline
router decides.

The route with the largest bound - price x cost is taken. The price of the budget is the smallest at which the last
prompts, judged by what is known now, would have spent what the budget allows: the dual of the knapsack. (PILOT has a
threshold that rises with what is spent, and needs to know how many prompts will come.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from edgemoe.errors import EdgeMoEError
from edgemoe.files import locked
from edgemoe.routing.feedback_state import (
    SIZE,
    WINDOW,
    Knowledge,
    Rated,
    Seen,
    forget,
    read_state,
    write_state,
)
from edgemoe.routing.regression import Vector
from edgemoe.routing.router import Router

_FEW = 50
"""Prompts; before there are so many, the caller's price holds."""
_ALPHA = 0.3
_NORM = 1.5  # of the part of an embedding that is not constant, on the mean
_CLIP = 3.0
_STEPS = 40


@dataclass(frozen=True)
class Choice:
    """A route, the quality (0 to 1) and the exploration bonus of every route, and the price of a unit of cost."""

    route: str
    scores: Mapping[str, float]
    bonuses: Mapping[str, float]
    price: float


class Bandit:
    """Chooses routes and learns from ratings of their answers. One object belongs to one thread.

    It is bound to the router whose embedding it uses. `path` is where it is kept, None for nowhere.
    """

    def __init__(self, router: Router, path: str | Path | None = None) -> None:
        self.router = router
        self.path = Path(path) if path is not None else None
        self._identity = _identity(router)
        self._knowledge = self._saved() or self._nothing()
        self._news: list[Seen] = []

    @classmethod
    def load(cls, path: str | Path, router: Router) -> Bandit:
        """As it was saved; a new one where there is no file.

        Raises:
            ReadError: when the file cannot be read, is damaged, or was made with another router.
        """
        return cls(router, path)

    @property
    def ratings(self) -> int:
        """How many answers have been rated."""
        return self._knowledge.regression.count

    def embed(self, prompt: str) -> Vector:
        """The router's units, of one scale, in 32 sums with random signs (SIZE,)."""
        return _embedding(self.router, prompt, self._knowledge.mean, self._knowledge.scale)

    def scores(self, embedding: Vector, prior_scores: Mapping[str, float]) -> dict[str, float]:
        """The quality of each route's answer, from 0 to 1 as far as its prior is."""
        learned = embedding @ self._knowledge.regression.weights(list(prior_scores))
        return dict(zip(prior_scores, (np.array(list(prior_scores.values())) + learned).tolist(), strict=True))

    def choose(
        self,
        embedding: Vector,
        prior_scores: Mapping[str, float],
        costs: Mapping[str, float],
        *,
        budget: float,
        price: float,
    ) -> Choice:
        """The route for a prompt, which counts as decided.

        `prior_scores` has what the offline router expects of each route that can be taken, `costs` what it takes;
        `budget` is the mean cost of a prompt that is allowed, `price` the quality that a unit of cost must bring
        before enough prompts have been seen to know: the static threshold / the cost.
        """
        if not prior_scores or set(prior_scores) != set(costs):
            raise EdgeMoEError(f"each route needs a prior and a cost: {sorted(prior_scores)} and {sorted(costs)}")
        if len(self._knowledge.window) >= _FEW:
            price = self._price(budget)
        scores = self.scores(embedding, prior_scores)
        bonuses = {route: _ALPHA * self._knowledge.regression.deviation(embedding, route) for route in scores}
        chosen = max(scores, key=lambda route: scores[route] + bonuses[route] - price * costs[route])
        seen = Seen(embedding, dict(prior_scores), dict(costs), costs[chosen], budget)
        self._knowledge.apply(seen)
        if self.path is not None:
            self._news.append(seen)
        return Choice(chosen, scores, bonuses, price)

    def update(self, embedding: Vector, route: str, prior_score: float, reward: float) -> None:
        """Learns that the answer of `route` was as good as `reward` (0 to 1) when its prior was `prior_score`.

        It is saved at once, with whatever else there is to save.

        Raises:
            WriteError, ReadError: as `save`; nothing is learned then.
        """
        if not 0 <= reward <= 1:
            raise EdgeMoEError(f"a reward is from 0 (bad) to 1 (good), not {reward!r}")
        rated = Rated(embedding, route, reward - prior_score)
        if self.path is None:
            self._knowledge.apply(rated)
        else:
            self._save(self.path, [*self._news, rated])

    def save(self) -> None:
        """Writes which prompts were decided, on top of what other processes have saved since it was loaded.

        Raises:
            WriteError: when the file cannot be written; nothing is lost then.
            ReadError: when what is there is damaged or another router's.
        """
        if self.path is not None and self._news:
            self._save(self.path, self._news)

    def reset(self) -> None:
        """Forgets everything, and removes the file."""
        if self.path is not None:
            forget(self.path)
        self._knowledge, self._news = self._nothing(), []

    def _saved(self) -> Knowledge | None:
        return read_state(self.path, self._identity) if self.path is not None else None

    def _nothing(self) -> Knowledge:
        return Knowledge(*_scale(self.router))

    def _save(self, path: Path, events: Sequence[Seen | Rated]) -> None:
        with locked(path):
            latest = self._saved() or self._nothing()
            for event in events:
                latest.apply(event)
            write_state(path, latest, self._identity)
        self._knowledge, self._news = latest, []

    def _price(self, budget: float) -> float:
        window = self._knowledge.window
        routes = sorted({route for seen in window for route in seen.priors})
        x = np.stack([seen.x for seen in window])
        priors, costs = (
            np.array([[getattr(seen, name).get(route, missing) for route in routes] for seen in window])
            for name, missing in (("priors", -np.inf), ("costs", 0.0))
        )
        scores = priors + x @ self._knowledge.regression.weights(routes)
        allowed = max(0.0, budget + self._knowledge.balance / WINDOW)
        return price_of(scores, costs, allowed)


def price_of(scores: Vector, costs: Vector, allowed: float) -> float:
    """The smallest price at which the best routes, by score - price x cost, cost `allowed` on the mean; (n, routes)."""

    def spent(price: float) -> float:
        return float(np.take_along_axis(costs, (scores - price * costs).argmax(axis=1)[:, None], axis=1).mean())

    if spent(0.0) <= allowed:
        return 0.0
    low, high = 0.0, 1.0 / max(float(costs.max()), 1e-12)
    while spent(high) > allowed and high * float(costs.max()) < 1e6:
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > allowed else (low, middle)
    return high


# Embeddings


def _scale(router: Router) -> tuple[Vector, Vector]:
    """Mean and deviation of each unit over the prompts that come with edgemoe."""
    from edgemoe.default_model import prompts_path
    from edgemoe.routing.rows import read_rows

    units = np.array([router.units(row.text) for row in read_rows([prompts_path()], "label")[::4]])
    return units.mean(axis=0), np.maximum(units.std(axis=0), 1e-9)


def _embedding(router: Router, prompt: str, mean: Vector, scale: Vector) -> Vector:
    units = np.clip((np.asarray(router.units(prompt)) - mean) / scale, -_CLIP, _CLIP)
    sums = units @ _signs(len(units)) * (_NORM / np.sqrt(len(units) * (SIZE - 1)))
    return np.append(1.0, sums)


def _signs(units: int) -> Vector:
    """(units, SIZE - 1) of +-1, the same ones always (Achlioptas 2003)."""
    bits = [xxhash.xxh3_64_intdigest(i.to_bytes(4, "little")) for i in range(units)]
    return np.array([[1.0 if hashed >> k & 1 else -1.0 for k in range(SIZE - 1)] for hashed in bits])


def _identity(router: Router) -> str:
    """Of the router's file: an embedding of another one means something else."""
    return xxhash.xxh3_128_hexdigest(router.path.read_bytes())
