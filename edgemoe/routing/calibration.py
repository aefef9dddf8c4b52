"""Probabilities that mean what they say, and the thresholds between labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgemoe.routing.heads import Doubles, softmax

Ints = npt.NDArray[np.int64]

_OFFSETS = np.arange(-2.0, 3.01, 0.25)
_LENGTHS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
_BINS = 15
_LEAST_RANKED = 30


def temperature(logits: Doubles, targets: Ints, weights: Doubles) -> float:
    """The factor for logits with the smallest weighted cross entropy (Guo et al. 2017, as 1 / T)."""
    factors = np.exp(np.linspace(-2, 1.5, 71))
    losses = []
    for factor in factors:
        p = softmax(logits * factor)[np.arange(len(targets)), targets]
        losses.append(float((weights * -np.log(np.maximum(p, 1e-12))).sum()))
    return float(factors[int(np.argmin(losses))])


def calibration_error(confidence: Doubles, correct: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy over 15 bins of equal width."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    error = 0.0
    for b in np.unique(bins):
        inside = bins == b
        error += inside.mean() * abs(float(confidence[inside].mean()) - float(correct[inside].mean()))
    return error


@dataclass(frozen=True)
class Group:
    """Rows of one label and one source; `label` is -1 for all open labels."""

    label: int
    rows: Ints


def groups_of(labels: Ints, sources: Sequence[str], open_labels: Sequence[int], least: int = 5) -> list[Group]:
    """Groups of at least `least` rows."""
    judged = np.where(np.isin(labels, list(open_labels)), -1, labels)
    names = np.asarray(sources)
    keys = sorted({(int(label), str(name)) for label, name in zip(judged, names, strict=True)})
    found = [Group(label, np.flatnonzero((judged == label) & (names == name))) for label, name in keys]
    return [group for group in found if len(group.rows) >= least]


def recalls(scores: Doubles, groups: Sequence[Group], offsets: Doubles) -> dict[int, float]:
    """For each label the share of its rows that get it, averaged over sources.

    `scores` are log-probabilities of the labels that are not open, then of the open ones together.
    """
    chosen = (scores + np.append(offsets, 0.0)).argmax(axis=1)
    chosen = np.where(chosen == scores.shape[1] - 1, -1, chosen)
    parts: dict[int, list[float]] = {}
    for group in groups:
        parts.setdefault(group.label, []).append(float((chosen[group.rows] == group.label).mean()))
    return {label: float(np.mean(values)) for label, values in parts.items()}


def harmonic_mean(found: dict[int, float]) -> float:
    """Of the mean recall of labels and the recall of the open ones; of one side alone where the other is missing."""
    if not found:
        return 0.0
    inside = [value for label, value in found.items() if label >= 0]
    if not inside or -1 not in found:
        return float(np.mean(list(found.values())))
    mean, out = float(np.mean(inside)), found[-1]
    return 2 * mean * out / (mean + out) if mean + out else 0.0


def tune_offsets(scores: Doubles, groups: Sequence[Group]) -> Doubles:
    """Offsets with the largest harmonic mean: first one for all labels, then one label after the other."""
    labels = scores.shape[1] - 1
    best = np.zeros(labels)
    value = harmonic_mean(recalls(scores, groups, best))
    candidates = [np.full(labels, offset) for offset in _OFFSETS]
    for round_ in range(4):
        for i in range(1 if round_ == 0 else labels):
            if round_:
                candidates = [np.where(np.arange(labels) == i, offset, best) for offset in _OFFSETS]
            values = [harmonic_mean(recalls(scores, groups, c)) for c in candidates]
            if max(values) > value + 1e-4:
                value, best = max(values), candidates[int(np.argmax(values))]
    return best


def tune_length(z: Doubles, lengths: Doubles, targets: Doubles, sources: Sequence[str]) -> float:
    """How much a text's length should add to the log odds z, so that inside sources they rank as the targets do.

    Judged by the mean correlation of ranks and targets over sources (Spearman's, with targets as they are); sources of
    fewer than 30 texts are judged together.
    """
    unit = length_unit(z, lengths)
    sizes = Counter(sources)
    names = np.array([source if sizes[source] >= _LEAST_RANKED else "" for source in sources])
    best, value = 0.0, -np.inf
    for factor in _LENGTHS:
        score = z + factor * unit * lengths
        found = []
        for name in sorted(set(names.tolist())):
            inside = names == name
            if targets[inside].std() > 0:
                ranks = np.argsort(np.argsort(score[inside], kind="stable"), kind="stable")
                found.append(float(np.corrcoef(ranks, targets[inside])[0, 1]))
        mean = float(np.mean(found)) if found else 0.0
        if mean > value + 1e-6:
            best, value = factor * unit, mean
    return float(best)


def length_unit(z: Doubles, lengths: Doubles) -> float:
    """The factor with which lengths vary as much as the log odds z."""
    return float(z.std() / max(float(lengths.std()), 1e-9))


def platt(z: Doubles, targets: Doubles) -> tuple[float, float]:
    """Scale and shift with which sigmoid(scale z + shift) fits targets best (Platt 1999), by Newton's method."""
    features = np.stack([z, np.ones_like(z)], axis=1)
    w = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(features @ w, -30, 30)))
        curvature = (features * (p * (1 - p))[:, None]).T @ features + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, features.T @ (p - targets) + 1e-6 * w)
        w -= np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    return float(max(w[0], 1e-3)), float(w[1])
