"""The rows of a head, and how layers are trained on some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgemoe import _native
from edgemoe.routing.features import Corpus, Hashing
from edgemoe.routing.heads import Doubles, Layers, softmax
from edgemoe.routing.rows import Row


@dataclass(frozen=True)
class Options:
    """How heads are trained; what is not here was chosen by measurement (docs/decisions.md).

    `open_labels` are as wide as `NONE`.
    """

    seed: int = 1
    open_labels: tuple[str, ...] = ()
    teachers: int = 2
    passes: float = 6
    threads: int = 1


@dataclass(frozen=True)
class Shape:
    """Of layers: units for each field, and how they are kept from learning rows by heart."""

    dim: int
    rectified: bool
    dropped: float = 0.9
    dropped_units: float = 0.0


class Problem:
    """The rows of a head. Of a source such as "exam/law" the first part counts as the source."""

    def __init__(self, name: str, rows: Sequence[Row], hashing: Hashing, options: Options) -> None:
        self.name, self.options, self.hashing = name, options, hashing
        self.rows = list(rows)
        self.sources = [family(row.source) for row in self.rows]

    def of_split(self, split: str, labelled: bool = True) -> list[int]:
        """Places of rows."""
        return [i for i, r in enumerate(self.rows) if r.split == split and (self.name in r.labels) is labelled]

    def fit(
        self, corpus: Corpus, chosen: Sequence[int], targets: Doubles, drawn: Doubles, shape: Shape, seed: int
    ) -> Layers:
        """Layers for targets (chosen, classes); `drawn` says how often each of the chosen rows is seen."""
        part = corpus.take(np.asarray(chosen, np.int64))
        found = _native.train_head(
            part.ids,
            part.bounds,
            np.ascontiguousarray(targets, np.float32),
            np.ascontiguousarray(drawn, np.float64),
            buckets=self.hashing.buckets,
            dim=shape.dim,
            rectified=shape.rectified,
            passes=self.options.passes,
            rate=0.15,
            dropped=shape.dropped,
            dropped_units=shape.dropped_units,
            gate_rate=0.5 if shape.rectified else 0.3,
            gate_limit=2.5,
            seed=seed,
        )
        return Layers(rectified=shape.rectified, **found)


def family(source: str) -> str:
    """The first part of a source."""
    return source.partition("/")[0]


def mean_probabilities(teachers: Sequence[Layers], corpus: Corpus, chosen: Sequence[int]) -> Doubles:
    """What teachers say of chosen texts on average, (chosen, classes)."""
    part = corpus.take(np.asarray(chosen, np.int64))
    return np.mean([softmax(layers.logits(part)) for layers in teachers], axis=0)
