"""What feedback would bring: prompts whose answers were all scored, as a stream of which only the chosen one is seen.

The *static* rule is RouteLLM's (arXiv 2406.18665): the first cloud model answers the prompts that most probably need a
strong one, the first local model all others, with the threshold that spends exactly what the bandit spent. *Hindsight*
is the best that the bandit could have known: its own regression on the scores of all answers. Regret is what a policy
lacks to it. The *oracle* knows every answer before it is given. All spend the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgemoe.errors import EdgeMoEError
from edgemoe.routing.feedback import Bandit
from edgemoe.routing.regression import Regression, Vector
from edgemoe.routing.router import Router
from edgemoe.routing.rows import Row

PARTS = 4
"""Of the stream, in which regret is shown."""

_STRONG_QUALITY = 0.85
"""What a cloud model's answer is expected to be worth: feedback corrects it within a few prompts."""


@dataclass(frozen=True)
class Route:
    """A model of the stream: `column` of the rows' scores, or None for `weak` (local) and `strong` (cloud)."""

    name: str
    cost: float
    column: int | None = None

    def score(self, row: Row) -> float | None:
        """How good its answer to a row's prompt was, from 0 to 1; None where nobody knows."""
        if self.column is None:
            return row.strong if self.cost else row.weak
        return row.scores[self.column] if self.column < len(row.scores) else None


def routes_of(local: Sequence[int], cloud: Sequence[int]) -> list[Route]:
    """Local models cost nothing, cloud models 1; without columns one of each, those of `weak` and `strong`."""
    locals_ = [Route(f"local {i}", 0.0, i) for i in local] or [Route("local", 0.0)]
    return locals_ + ([Route(f"cloud {i}", 1.0, i) for i in cloud] or [Route("cloud", 1.0)])


@dataclass(frozen=True)
class Stream:
    """`embeddings` (n, SIZE), `need` the strong probabilities (n,), `priors` and `scores` (n, routes)."""

    routes: Sequence[Route]
    embeddings: Vector
    need: Vector
    priors: Vector
    scores: Vector

    @property
    def costs(self) -> Vector:
        """(routes,)"""
        return np.array([route.cost for route in self.routes])


def stream_of(router: Router, rows: Sequence[Row], routes: Sequence[Route]) -> Stream:
    """The rows that have a score of every route.

    Raises:
        EdgeMoEError: when there are none, or when the router has no head for strong models.
    """
    known = [(row, [route.score(row) for route in routes]) for row in rows]
    usable = [(row, scores) for row, scores in known if None not in scores]
    if len(usable) < 100:
        names = ", ".join(route.name for route in routes)
        raise EdgeMoEError(f"only {len(usable)} of {len(rows)} lines have scores of {names}: a stream needs 100")
    texts = [row.text for row, _ in usable]
    found = [router.classify(text).strong_probability for text in texts]
    if None in found:
        raise EdgeMoEError(f"{router.path} has no head that says how probably a strong model is needed")
    need, bandit = np.array(found, np.float64), Bandit(router)
    local = np.array([route.cost == 0 for route in routes])
    priors = _STRONG_QUALITY - need[:, None] * local
    embeddings = np.stack([bandit.embed(text) for text in texts])
    return Stream(routes, embeddings, need, priors, np.array([scores for _, scores in usable], np.float64))


def simulate(
    router: Router, stream: Stream, *, budget: float, orders: int = 10, rated: float = 1.0, seed: int = 1
) -> dict[str, Any]:
    """Streams the prompts in so many random orders.

    `budget` is the share of prompts that may go to the cloud, `rated` the share of answers that are rated. Means over
    orders; the error of the gain over the static rule is that of the mean over prompts.
    """
    hindsight = _hindsight(stream)
    runs = [_run(router, stream, hindsight, budget, rated, random.Random(seed + i)) for i in range(orders)]
    by_prompt = {name: np.mean([run.quality[name] for run in runs], axis=0) for name in runs[0].quality}
    gain = by_prompt["feedback"] - by_prompt["static"]
    regret = {
        name: np.mean([run.parts("hindsight") - run.parts(name) for run in runs], axis=0).tolist()
        for name in ("feedback", "static")
    }
    return {
        "prompts": len(gain),
        "orders": orders,
        "cloud share": float(np.mean([run.share for run in runs])),
        "quality": {name: float(values.mean()) for name, values in by_prompt.items()},
        "gain over static": float(gain.mean()),
        "standard error": float(gain.std() / np.sqrt(len(gain))),
        "regret": regret,
    }


@dataclass(frozen=True)
class _Run:
    """`order` is the one in which prompts came; `quality` is by policy and prompt, in the stream's own order."""

    order: list[int]
    share: float
    quality: dict[str, Vector]

    def parts(self, policy: str) -> Vector:
        """The mean quality in each part of the stream."""
        return np.array([part.mean() for part in np.array_split(self.quality[policy][self.order], PARTS)])


def _run(router: Router, stream: Stream, hindsight: Vector, budget: float, rated: float, draw: random.Random) -> _Run:
    order = list(range(len(stream.need)))
    draw.shuffle(order)
    chosen = _feedback(router, stream, order, budget, rated, draw)
    share = float(stream.costs[chosen].mean())
    first = np.full(stream.scores.shape, -np.inf)
    for kind in (0.0, 1.0):
        column = stream.costs.tolist().index(kind)
        first[:, column] = stream.priors[:, column]
    quality = {
        "feedback": stream.scores[np.arange(len(chosen)), chosen],
        "static": _spending(stream, first, share),
        "hindsight": _spending(stream, hindsight, share),
        "oracle": _spending(stream, stream.scores, share),
    }
    return _Run(order, share, quality)


def _feedback(
    router: Router, stream: Stream, order: Sequence[int], budget: float, rated: float, draw: random.Random
) -> list[int]:
    """The route of each prompt, by its place in the stream."""
    bandit, names = Bandit(router), [route.name for route in stream.routes]
    costs = dict(zip(names, stream.costs.tolist(), strict=True))
    threshold = float(np.quantile(stream.need, 1 - budget))
    chosen = [0] * len(order)
    for i in order:
        priors = dict(zip(names, stream.priors[i].tolist(), strict=True))
        choice = bandit.choose(stream.embeddings[i], priors, costs, budget=budget, price=threshold)
        chosen[i] = names.index(choice.route)
        if draw.random() < rated:
            reward = float(stream.scores[i, chosen[i]])
            bandit.update(stream.embeddings[i], choice.route, priors[choice.route], reward)
    return chosen


def _spending(stream: Stream, scores: Vector, share: float) -> Vector:
    """The quality of each prompt's answer, when those go to the cloud to which it brings most by `scores`."""
    rows = np.arange(len(scores))
    local, cloud = (np.where(stream.costs == kind, scores, -np.inf).argmax(axis=1) for kind in (0.0, 1.0))
    order = np.argsort(scores[rows, local] - scores[rows, cloud], kind="stable")
    chosen = local.copy()
    best = order[: round(share * len(order))]
    chosen[best] = cloud[best]
    return stream.scores[rows, chosen]


def _hindsight(stream: Stream) -> Vector:
    """What the bandit would expect had it rated every answer of every route (n, routes)."""
    names = [route.name for route in stream.routes]
    regression = Regression(stream.embeddings.shape[1])
    for x, surprises in zip(stream.embeddings, stream.scores - stream.priors, strict=True):
        for name, surprise in zip(names, surprises.tolist(), strict=True):
            regression.add(x, name, surprise)
    return stream.priors + stream.embeddings @ regression.weights(names)
