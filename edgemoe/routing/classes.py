"""Heads with classes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from edgemoe.errors import EdgeMoEError
from edgemoe.routing import calibration
from edgemoe.routing.features import Hashing, corpus_of
from edgemoe.routing.fitting import Options, Problem, Shape, family, mean_probabilities
from edgemoe.routing.heads import NONE, Doubles, Head, Layers, softmax
from edgemoe.routing.rows import DEV, TRAIN, Row
from edgemoe.routing.sampling import frequencies, held_out, pieces

_SHAPE = Shape(16, rectified=True, dropped_units=0.3)
_SMOOTHING = 0.02
_OWN_LABEL = 0.7  # of a student's target; the rest is the teachers'
_DOUBTFUL = 0.6  # an open row to which heads that have not seen it give this much of other labels is left out
_OPEN_SHARE = 2.0
_UNLABELLED_SHARE = 0.3
_PIECES = 2
_FOLDS = 3


class Classes(Problem):
    """A head with classes: teachers label pieces of rows and rows without labels, and a student learns from all."""

    def __init__(self, name: str, rows: Sequence[Row], hashing: Hashing, options: Options) -> None:
        super().__init__(name, rows, hashing, options)
        counts = Counter(str(row.labels[name]) for row in self.rows if name in row.labels and row.split == TRAIN)
        self.labels = tuple(sorted(counts, key=lambda label: (label == NONE, label in options.open_labels, label)))
        self.open = tuple(label for label in self.labels if label in (*options.open_labels, NONE))
        if len(self.labels) < 2 or len(self.open) == len(self.labels):
            raise EdgeMoEError(f"{name} has the labels {', '.join(self.labels) or '(none)'}: at least two are needed")
        self._cut(random.Random(options.seed))
        known = {label: i for i, label in enumerate(self.labels)}
        self.y = [known.get(str(row.labels[name]), -1) if name in row.labels else -1 for row in self.rows]
        self.open_ids = [known[label] for label in self.open]
        self.corpus = corpus_of([row.text for row in self.rows], hashing)

    def _cut(self, draw: random.Random) -> None:
        whole = len(self.rows)
        for i in self.of_split(TRAIN):
            self.rows += [replace(self.rows[i], text=piece) for piece in pieces(self.rows[i].text, _PIECES, draw)]
        self.is_piece = [i >= whole for i in range(len(self.rows))]
        self.sources = [family(row.source) for row in self.rows]

    def head(self) -> Head:
        trained = [i for i in self.of_split(TRAIN) if not self.is_piece[i]]
        doubtful = self._doubtful(trained)
        train = [i for i in self.of_split(TRAIN) if i not in doubtful]
        names = [self.labels[self.y[i]] for i in train if not self.is_piece[i]]
        sources = [self.sources[i] for i in train if not self.is_piece[i]]
        groups = held_out(names, sources, _FOLDS)
        with ThreadPoolExecutor(self.options.threads) as pool:
            layers, *judged = pool.map(lambda group: self._distil(train, group), [set[str](), *groups])
        dev = [i for i in self.of_split(DEV) if self.y[i] >= 0 and self.rows[i].judged]
        parts = [(layers, dev, "")] + [
            (fold, [*(i for i in dev if self.sources[i] in group), *self._whole(train, group)], "held out: ")
            for fold, group in zip(judged, groups, strict=True)
        ]
        return self._calibrated(layers, [part for part in parts if part[1]], len(doubtful))

    def _whole(self, train: Sequence[int], group: set[str]) -> list[int]:
        return [i for i in train if self.sources[i] in group and not self.is_piece[i] and self.rows[i].judged]

    def _targets(self, chosen: Sequence[int]) -> Doubles:
        targets = np.full((len(chosen), len(self.labels)), _SMOOTHING / len(self.labels))
        targets[np.arange(len(chosen)), [self.y[i] for i in chosen]] += 1 - _SMOOTHING
        return targets

    def _drawn(self, chosen: Sequence[int]) -> Doubles:
        shares: dict[Any, float] = dict.fromkeys(self.open_ids, _OPEN_SHARE) | {-1: _UNLABELLED_SHARE}
        return frequencies([self.y[i] for i in chosen], [self.sources[i] for i in chosen], shares)

    def _doubtful(self, train: Sequence[int]) -> set[int]:
        """Open rows that look like another label to a head that was trained on the other half."""
        if not self.open:
            return set()
        draw = random.Random(self.options.seed)
        half = [draw.random() < 0.5 for _ in train]
        found = set()
        closed = [k for k in range(len(self.labels)) if k not in self.open_ids]
        for side in (True, False):
            seen = [i for i, h in zip(train, half, strict=True) if h is side]
            judged = [i for i, h in zip(train, half, strict=True) if h is not side and self.y[i] in self.open_ids]
            if not judged or len({self.y[i] for i in seen}) < len(self.labels):
                continue
            layers = self.fit(self.corpus, seen, self._targets(seen), self._drawn(seen), _SHAPE, self.options.seed)
            p = mean_probabilities([layers], self.corpus, judged)[:, closed].sum(axis=1)
            found |= {i for i, value in zip(judged, p, strict=True) if value > _DOUBTFUL}
        return found

    def _distil(self, train: Sequence[int], without: set[str]) -> Layers:
        train = [i for i in train if self.sources[i] not in without]
        whole = [i for i in train if not self.is_piece[i]]
        seed = self.options.seed
        teachers = [
            self.fit(self.corpus, whole, self._targets(whole), self._drawn(whole), _SHAPE, seed + i)
            for i in range(self.options.teachers)
        ]
        unlabelled = [i for i in self.of_split(TRAIN, labelled=False) if self.sources[i] not in without]
        chosen = [*train, *unlabelled]
        taught = mean_probabilities(teachers, self.corpus, chosen)
        targets = np.concatenate([self._targets(train), taught[len(train) :]])
        for k, i in enumerate(train):
            targets[k] = self._softened(i, targets[k], taught[k])
        return self.fit(self.corpus, chosen, targets, self._drawn(chosen), _SHAPE, seed)

    def _softened(self, i: int, own: Doubles, taught: Doubles) -> Doubles:
        """A piece of a row may have lost what made it the row's label: it is that or open, as teachers see it."""
        if not self.is_piece[i]:
            return _OWN_LABEL * own + (1 - _OWN_LABEL) * taught
        if self.y[i] in self.open_ids or not self.open:
            return own
        allowed = np.zeros_like(taught)
        allowed[[self.y[i], *self.open_ids]] = taught[[self.y[i], *self.open_ids]] + 1e-9
        return allowed / allowed.sum()

    def _calibrated(self, layers: Layers, parts: Sequence[tuple[Layers, list[int], str]], doubtful: int) -> Head:
        if not parts:
            raise EdgeMoEError(f"{self.name} has no rows to calibrate with: give some the split {DEV!r}")
        logits = np.concatenate([fold.logits(self.corpus.take(np.asarray(ix, np.int64))) for fold, ix, _ in parts])
        y = np.array([self.y[i] for _, ix, _ in parts for i in ix])
        sources = [prefix + self.sources[i] for _, ix, prefix in parts for i in ix]
        weights = frequencies(y.tolist(), sources, {}, power=0.5)
        scale = calibration.temperature(logits, y, weights)
        p = softmax(logits * scale)
        closed = [k for k in range(len(self.labels)) if k not in self.open_ids]
        offsets = np.zeros(len(self.labels))
        report: dict[str, Any] = {"left out as doubtful": doubtful, "rows": dict(Counter(self.labels[k] for k in y))}
        if self.open:
            columns = [p[:, closed], p[:, self.open_ids].sum(axis=1, keepdims=True)]
            scores = np.log(np.maximum(np.concatenate(columns, axis=1), 1e-12))
            places = np.array([closed.index(k) if k in closed else -1 for k in y])
            groups = calibration.groups_of(places, sources, [-1])
            offsets[closed] = calibration.tune_offsets(scores, groups)
            found = calibration.recalls(scores, groups, offsets[closed])
            report["recall"] = {"open" if k < 0 else self.labels[closed[k]]: round(v, 4) for k, v in found.items()}
            report["harmonic mean"] = round(calibration.harmonic_mean(found), 4)
        return Head(self.name, self.labels, layers, self.open, tuple(offsets.tolist()), scale, report=report)
