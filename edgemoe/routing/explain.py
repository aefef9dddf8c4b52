"""Which words of a prompt mattered: each is left out, wherever it stands, and the prompt is classified again."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import islice

from edgemoe.routing.heads import NONE, YES
from edgemoe.routing.policy import Feature
from edgemoe.routing.router import Classification, Router

MOST_WORDS = 300
"""Of a longer prompt the first ones are tried."""

_SMALLEST = 0.05  # a change of log-odds that is worth telling
_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


def features_of(routers: Sequence[Router], prompt: str, heads: Iterable[str], most: int = 5) -> tuple[Feature, ...]:
    """For each head the `most` words that move the log-odds of its choice; of a probability, of yes."""
    words = list(dict.fromkeys(match[0] for match in _WORD.finditer(prompt)))[:MOST_WORDS]
    features: list[Feature] = []
    for router in routers:
        whole = router.classify(prompt)
        here = _by_head(router, prompt)
        without = [(word, _by_head(router, _leave_out(prompt, word))) for word in words]
        for head in (h for h in heads if h in here):
            label = _label(whole, head)
            place = router.labels[head].index(label)
            odds = _log_odds(here[head], place)
            moves = [Feature(word, head, label, odds - _log_odds(there[head], place)) for word, there in without]
            moves = [move for move in moves if abs(move.weight) >= _SMALLEST]
            features += sorted(moves, key=lambda move: -abs(move.weight))[:most]
    return tuple(features)


def _by_head(router: Router, prompt: str) -> dict[str, list[float]]:
    logits = iter(router.logits(prompt))
    return {head: list(islice(logits, len(labels))) for head, labels in router.labels.items()}


def _label(found: Classification, head: str) -> str:
    scores = found.scores[head]
    if YES in scores:
        return YES
    choice = found.choices[head] or NONE
    return choice if choice in scores else max(scores, key=lambda label: scores[label])


def _leave_out(prompt: str, word: str) -> str:
    left = r"(?<!\w)" if word[0].isalnum() else ""
    right = r"(?!\w)" if word[-1].isalnum() else ""
    return re.sub(f"{left}{re.escape(word)}{right}", " ", prompt)


def _log_odds(logits: Sequence[float], place: int) -> float:
    """Of one label against all others: of probabilities they would be lost where one is close to 1."""
    others = [z for i, z in enumerate(logits) if i != place]
    largest = max(others)
    return logits[place] - largest - math.log(sum(math.exp(z - largest) for z in others))
