"""Who should answer: how much of a strong model's lead a score recovers, at every share of prompts that it is asked.

Prompts go to the strong model in the order of a score. The gap recovered at a share of calls is
(quality - weak) / (strong - weak); APGR is its mean over the shares 0, 1, ... 100%, and CPT50 and CPT80 are the shares
that recover 50 and 80% (RouteLLM, arXiv 2406.18665).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgemoe.errors import EdgeMoEError
from edgemoe.routing.calibration import calibration_error
from edgemoe.routing.heads import Doubles
from edgemoe.routing.router import STRONG, Router

Values = dict[str, Any]

ORDERS = ("router", "length", "random", "oracle")
"""By the router's probability, by length alone, by chance (its expectation), and by knowing who answers better."""
SHARES = np.arange(101) / 100


@dataclass(frozen=True)
class Answered:
    """A prompt of a set, and how good (0 to 1) a weak and a strong model's answers to it are."""

    text: str
    weak: float
    strong: float
    name: str = ""


class Comparison:
    """A router's order of prompts beside the other orders, for each set of prompts.

    Raises:
        EdgeMoEError: for a router without the head strong, and a set whose strong model is not better.
    """

    def __init__(self, router: Router, prompts: Iterable[Answered]) -> None:
        if STRONG not in router.labels:
            raise EdgeMoEError(
                f"{router.path} has no head {STRONG}, only {', '.join(router.labels)}: it cannot say who should answer"
            )
        by_name: dict[str, list[Answered]] = defaultdict(list)
        for prompt in prompts:
            by_name[prompt.name].append(prompt)
        self._sets = {name: _Set(router, name, found) for name, found in by_name.items()}

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """For each set and order the gap recovered at the shares 0, 1, ... 100%."""
        return {name: {o: found.recovered(o).tolist() for o in ORDERS} for name, found in self._sets.items()}

    def titles(self) -> dict[str, str]:
        """For each set its name and the quality of the weak and the strong model alone."""
        return {
            name: f"{name} ({found.weak.mean():.2f} and {found.strong.mean():.2f})"
            for name, found in self._sets.items()
        }

    def figures(self) -> Values:
        """For each set APGR, CPT50, CPT80 and AUC of each order, and their means over sets."""
        sets = {name: found.figures() for name, found in self._sets.items()}
        mean = {
            order: {key: float(np.mean([s[order][key] for s in sets.values()])) for key in ("APGR", "CPT50", "CPT80")}
            for order in ORDERS
        }
        for order in ("router", "length"):
            mean[order]["AUC"] = float(np.mean([s[order]["AUC"] for s in sets.values()]))
        return {"sets": sets, "mean": mean}


class _Set:
    def __init__(self, router: Router, name: str, prompts: Sequence[Answered]) -> None:
        self.weak = np.array([prompt.weak for prompt in prompts])
        self.strong = np.array([prompt.strong for prompt in prompts])
        if self.strong.sum() <= self.weak.sum():
            raise EdgeMoEError(
                f"in {name or 'these prompts'} the strong model is not better: there is no gap to recover"
            )
        self._scores = {
            "router": np.array([router.classify(prompt.text).strong_probability for prompt in prompts], np.float64),
            "length": np.array([len(prompt.text) for prompt in prompts], np.float64),
            "oracle": self.strong - self.weak,
        }

    def recovered(self, order: str) -> Doubles:
        return recovered(self._scores[order], self.weak, self.strong) if order in self._scores else SHARES

    def figures(self) -> Values:
        yes = self.strong > self.weak
        found: Values = {order: summary(self.recovered(order)) for order in ORDERS}
        for order in ("router", "length"):
            found[order]["AUC"] = auc(self._scores[order], yes)
        found["router"]["calibration error"] = calibration_error(self._scores["router"], yes)
        found |= {"rows": len(yes), "weak": float(self.weak.mean()), "strong": float(self.strong.mean())}
        return found


def recovered(scores: Doubles, weak: Doubles, strong: Doubles) -> Doubles:
    """The share of the gap recovered at each of SHARES when the highest scores go to the strong model first."""
    order = np.argsort(-scores, kind="stable")
    gains = np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) / (strong - weak).sum()
    return gains[np.round(SHARES * len(scores)).astype(int)]


def summary(curve: Doubles) -> Values:
    """APGR, CPT50 and CPT80 of a curve over SHARES."""
    needed = {f"CPT{p}": float(SHARES[np.argmax(curve >= p / 100 - 1e-12)]) for p in (50, 80)}
    return {"APGR": float(curve.mean())} | needed


def auc(scores: Doubles, yes: npt.NDArray[np.bool_]) -> float:
    """The probability that a yes scores above a no; 0.5 where one of them is missing."""
    if yes.all() or not yes.any():
        return 0.5
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    ones = int(yes.sum())
    return float((ranks[yes].sum() - ones * (ones + 1) / 2) / (ones * (len(yes) - ones)))
