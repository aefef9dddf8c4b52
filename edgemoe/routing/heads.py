"""What a router is made of: heads over one hashing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgemoe import _native
from edgemoe.routing.features import Corpus, Hashing

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

NONE = "none"
"""The label of what belongs to no class of a head: its prompts are answered with no label."""
NO, YES = "no", "yes"


@dataclass(frozen=True)
class Layers:
    """What a head learns: embeddings (buckets, dim), gates (buckets,), weights (classes, 2 dim), bias (classes,)."""

    embeddings: Floats
    gates: Floats
    weights: Floats
    bias: Floats
    rectified: bool

    def logits(self, corpus: Corpus) -> Doubles:
        """In floating point, (texts, classes)."""
        arrays = (self.embeddings, self.gates, self.weights, self.bias)
        return _native.head_logits(corpus.ids, corpus.bounds, *arrays, rectified=self.rectified).astype(np.float64)


@dataclass(frozen=True)
class Topics:
    """What a text is about, as far as the probability of another head depends on it.

    `effects` are what each topic adds to that head's log odds; a text has the mean of them, weighted by the
    probabilities of its topics.
    """

    layers: Layers
    effects: tuple[float, ...]

    def adds(self, corpus: Corpus) -> Doubles:
        """To the log odds of each text."""
        return softmax(self.layers.logits(corpus)) @ np.asarray(self.effects)


@dataclass(frozen=True)
class Head:
    """A head and its calibration.

    Its logits are (`layers` + `length` x the text's length in the last class) x `scale` + `shift`, and the effect of
    `topics` in the last class. A label's
    `offset` is added to its log-probability when labels compete; labels in `open` are no classes of their own, they
    stand together against the others (`NONE` is one of them).
    """

    name: str
    labels: tuple[str, ...]
    layers: Layers
    open: tuple[str, ...] = ()
    offsets: tuple[float, ...] = ()
    scale: float = 1.0
    shift: tuple[float, ...] = ()
    length: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)
    topics: Topics | None = None

    def logits(self, corpus: Corpus) -> Doubles:
        """Calibrated, in floating point, (texts, classes)."""
        z = self.layers.logits(corpus)
        z[:, -1] += self.length * corpus.dense[:, 0]
        z = z * self.scale + np.asarray(self.shift or (0.0,) * len(self.labels))
        if self.topics:
            z[:, -1] += self.topics.adds(corpus)
        return z


@dataclass(frozen=True)
class RouterModel:
    """All heads, and how texts are hashed for them."""

    hashing: Hashing
    heads: tuple[Head, ...]


def softmax(logits: Doubles) -> Doubles:
    """Probabilities along the last axis."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def choose(
    probabilities: Sequence[float], labels: Sequence[str], open_labels: Sequence[str], offsets: Sequence[float]
) -> str | None:
    """The label of one prompt, None where it is out of distribution.

    Of the labels that are not open, the one with the largest log p + offset wins if that is not below the logarithm of
    what all open labels have together; else the likeliest open label.
    """
    opened = [i for i, label in enumerate(labels) if label in open_labels]
    closed = [i for i, label in enumerate(labels) if label not in open_labels]
    best = max(closed, key=lambda i: _log(probabilities[i]) + offsets[i])
    if opened and _log(probabilities[best]) + offsets[best] < _log(sum(probabilities[i] for i in opened)):
        best = max(opened, key=lambda i: probabilities[i])
    return None if labels[best] == NONE else labels[best]


def _log(p: float) -> float:
    return math.log(max(p, 1e-12))
