"""Heads with a probability: linear, and helped by a text's topic and length where those rank better."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from edgemoe.errors import EdgeMoEError
from edgemoe.routing import calibration
from edgemoe.routing.features import Hashing, corpus_of
from edgemoe.routing.fitting import Options, Problem, Shape, family, mean_probabilities
from edgemoe.routing.heads import NO, YES, Doubles, Head, Layers, Topics
from edgemoe.routing.rows import DEV, TRAIN, Row
from edgemoe.routing.sampling import frequencies

_SHAPE = Shape(1, rectified=False)
_TOPIC_SHAPE = Shape(8, rectified=True, dropped=0.7, dropped_units=0.1)
_TOPIC_SMOOTHING = 0.1
_FEW = 20  # a topic's effect is taken as if it had so many more rows with none
_SLOPE = 4.0  # of log odds by a probability, at one half
_REST = 0.125  # the part of what topics leave that counts beside them
_LENGTH = 0.5  # beside topics, of the variation of all else


class Probability(Problem):
    """A head with a probability.

    Where rows name topics ("exam/law" and "exam/physics"), a text's topic is guessed, and counts with the mean of its
    rows, and the rest of the head learns what that leaves. Without topics, how much the length counts is tuned on dev
    rows.
    """

    def __init__(self, name: str, rows: Sequence[Row], hashing: Hashing, options: Options) -> None:
        super().__init__(name, [row for row in rows if name in row.labels], hashing, options)
        self.targets = np.array([float(row.labels[name]) for row in self.rows])
        self.corpus = corpus_of([row.text for row in self.rows], hashing)
        self.train, self.dev = self.of_split(TRAIN), self.of_split(DEV)
        if not self.train or not self.dev or self.targets[self.train].std() == 0:
            raise EdgeMoEError(f"{self.name} needs rows with different labels to train on and others to calibrate with")

    def head(self) -> Head:
        """The trained and calibrated head."""
        topics = self._topics()
        layers = self._rest(topics)
        part = self.corpus.take(np.asarray(self.dev, np.int64))
        z = np.diff(layers.logits(part), axis=1)[:, 0]
        truth, lengths = self.targets[self.dev], part.dense[:, 0].astype(np.float64)
        share, z = (_REST, topics.adds(part) + _REST * z) if topics else (1.0, z)
        if topics:
            length = _LENGTH * calibration.length_unit(z, lengths)
        else:
            length = calibration.tune_length(z, lengths, truth, [self.sources[i] for i in self.dev])
        scale, shift = calibration.platt(z + length * lengths, truth)
        report: dict[str, Any] = {"rows": len(self.train), "dev rows": len(self.dev)}
        report["share of yes on dev"] = round(float(truth.mean()), 4)
        if topics:
            topics = Topics(topics.layers, tuple(scale * e for e in topics.effects))
        calibrated = (scale * share, (0.0, shift), length / share)
        return Head(self.name, (NO, YES), layers, (), (0.0, 0.0), *calibrated, report, topics)

    def _topics(self) -> Topics | None:
        """None where fewer than two topics have enough rows."""
        sources = [self.rows[i].source for i in self.train]
        sizes = Counter(sources)
        named = [source for source in sorted(sizes) if source != family(source) and sizes[source] >= _FEW]
        if len(named) < 2:
            return None
        known = {source: k for k, source in enumerate([*named, ""])}
        places = np.array([known.get(source, len(named)) for source in sources])
        effects = self._effects(places, len(known))
        targets = np.full((len(places), len(known)), _TOPIC_SMOOTHING / len(known))
        targets[np.arange(len(places)), places] += 1 - _TOPIC_SMOOTHING
        drawn = frequencies([0] * len(places), sources, {}, power=0.5)
        layers = self.fit(self.corpus, self.train, targets, drawn, _TOPIC_SHAPE, self.options.seed)
        return Topics(layers, tuple(effects.tolist()))

    def _effects(self, places: np.ndarray[Any, Any], count: int) -> Doubles:
        """What rows of each topic have more than their source, in log odds; none for the last, rows without a topic."""
        by_family: dict[str, list[float]] = defaultdict(list)
        families = [self.sources[i] for i in self.train]
        for name, target in zip(families, self.targets[self.train], strict=True):
            by_family[name].append(float(target))
        more = self.targets[self.train] - np.array([np.mean(by_family[name]) for name in families])
        sums, sizes = (np.bincount(places, w, minlength=count) for w in (more, None))
        effects = _SLOPE * sums / (sizes + _FEW)
        effects[-1] = 0
        return effects

    def _rest(self, topics: Topics | None) -> Layers:
        """Layers for what topics leave unexplained, learned from rows and from what other layers say of them."""
        t = self.targets[self.train]
        classes: list[Any] = t.tolist() if np.isin(t, (0, 1)).all() else [0] * len(t)
        drawn = frequencies(classes, [self.sources[i] for i in self.train], {}, power=0.75)
        if topics:
            t = np.clip(t - topics.adds(self.corpus.take(np.asarray(self.train, np.int64))) / _SLOPE, 0, 1)
        both = np.stack([1 - t, t], axis=1)
        with ThreadPoolExecutor(self.options.threads) as pool:
            seeds = range(self.options.seed, self.options.seed + self.options.teachers + 1)
            begun = [pool.submit(self.fit, self.corpus, self.train, both, drawn, _SHAPE, seed) for seed in seeds]
            teachers = [teacher.result() for teacher in begun]
        taught = mean_probabilities(teachers, self.corpus, self.train)
        return self.fit(self.corpus, self.train, 0.5 * both + 0.5 * taught, drawn, _SHAPE, self.options.seed)
