"""Which rows are trained on how often, pieces of long ones, and which sources are held out together."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from edgemoe.routing.heads import Doubles

SOURCE_POWER = 0.3
"""A source of n rows counts as n to this power inside its class."""
_LEAST_HELD_OUT = 20


def frequencies(
    classes: Sequence[Hashable], sources: Sequence[str], shares: dict[Hashable, float], power: float = SOURCE_POWER
) -> Doubles:
    """How often each row is drawn: every class has its share (1 where `shares` has none), every source a part of it."""
    sizes = Counter(zip(classes, sources, strict=True))
    totals: dict[Hashable, float] = defaultdict(float)
    for (label, _), n in sizes.items():
        totals[label] += n**power
    return np.array(
        [
            shares.get(label, 1.0) * sizes[label, source] ** (power - 1) / totals[label]
            for label, source in zip(classes, sources, strict=True)
        ]
    )


def pieces(text: str, count: int, draw: random.Random) -> list[str]:
    """Runs of 10 to 60 words of a text of 30 words or more; half of them are its beginning."""
    words = text.split()
    if len(words) < 30:
        return []
    found = []
    for _ in range(count):
        size = draw.randint(10, min(60, len(words) - 5))
        begin = draw.choice((0, draw.randint(0, len(words) - size)))
        found.append(" ".join(words[begin : begin + size]))
    return found


def held_out(labels: Sequence[str], sources: Sequence[str], folds: int) -> list[set[str]]:
    """Sources in groups: a head that is trained without one is judged by it, which imitates prompts from elsewhere.

    A source is in one group at most, and in none if fewer than half of some label's rows would remain.
    """
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for label, source in zip(labels, sources, strict=True):
        sizes[source][label] += 1
    totals = Counter(labels)
    groups: list[set[str]] = [set() for _ in range(folds)]
    gone = [Counter[str]() for _ in range(folds)]
    for source in sorted(sizes, key=lambda s: (-sizes[s].total(), s)):
        counts = sizes[source]
        fits = [i for i in range(folds) if all(2 * (gone[i][k] + n) <= totals[k] for k, n in counts.items())]
        if fits and counts.total() >= _LEAST_HELD_OUT:
            chosen = min(fits, key=lambda i: (max(gone[i][k] / totals[k] for k in counts), i))
            groups[chosen].add(source)
            gone[chosen] += counts
    return [group for group in groups if group]
