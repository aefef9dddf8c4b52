"""Heads that say of a layer's input what an error of each expert costs: fitting them, and the price of a byte.

The second router of D2MoE (arXiv 2504.15299). docs/format.md has the formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgemoe.packs.factor import inverse_factor

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.double]

RANK = 16
PRICES = 65
"""Steps of mean bits, from base planes alone to all planes."""
_SHARED, _OWN = 0.5, 1.5
"""Ridges of what experts share and of what an expert has alone, in rows for each column."""
_FEATURE_ROWS, _MEAN_ROWS = 20.0, 8.0
"""Rows that an expert's own weights of the features, and its mean, are held back by."""
_LARGEST_RESIDUAL = 4.0


@dataclass(frozen=True)
class Head:
    """`inward` [rank, columns] and `outward` [experts, rank + 1], float32: exp(outward . (inward x, 1)) is what the
    model loses by an error of an expert, for each unit of relative squared error and of squared router weight."""

    inward: Floats
    outward: Floats

    def weights(self, x: Floats, experts: npt.NDArray[np.integer]) -> Doubles:
        """What the head says of rows `x` [rows, columns], each for the expert beside it [rows]."""
        features = x @ self.inward.T
        own = self.outward[experts].astype(np.double)
        return np.exp(np.einsum("ij,ij->i", features, own[:, :-1]) + own[:, -1])


@dataclass(frozen=True)
class Heads:
    """Of each group by name, and the `PRICES` prices of a byte: see `prices_of`."""

    heads: dict[str, Head]
    prices: Floats


def fit_head(x: Floats, experts: npt.NDArray[np.integer], losses: Doubles, count: int, rank: int = RANK) -> Head:
    """A head of the first `rank` directions of the input that tell most about the logarithm of `losses`.

    A ridge regression for each expert around one that all share gives [columns, experts] weights; their best
    approximation of that rank, measured on the inputs, gives the features; each expert's weights of these are fitted
    again. What remains of the logarithms then counts with its mean exponential, so that losses are right on average.

    Args:
        x: inputs, [rows, columns]. experts: which expert had the row, [rows]. losses: above 0, [rows].
        count: experts.
    """
    middle = x.mean(0)
    scale = float(np.sqrt(((x - middle) ** 2).mean())) or 1.0
    inputs = ((x - middle) / scale).astype(np.double)
    logs = np.log(np.maximum(losses, 1e-30))
    rows = [np.flatnonzero(experts == expert) for expert in range(count)]
    means = np.array([(logs[own].sum() + _MEAN_ROWS * logs.mean()) / (len(own) + _MEAN_ROWS) for own in rows])
    rest = logs - means[experts]
    moments = inputs.T @ inputs
    moments[np.diag_indices_from(moments)] += _SHARED * x.shape[1]
    factor = inverse_factor(moments)  # U^T U is the inverse of the moments
    shared = factor.T @ (factor @ (inputs.T @ rest))
    weights = np.stack([shared + _ridge(inputs[own], rest[own] - inputs[own] @ shared) for own in rows], 1)
    weights *= np.sqrt([len(own) / len(x) + 1e-3 for own in rows])
    features = factor.T @ _directions(factor @ (moments @ weights), rank)
    size = np.sqrt(((inputs @ features) ** 2).mean(0))
    features /= np.where(size > 0, size, 1.0)
    seen = inputs @ features
    prior = _solve(seen, rest, 1e-3 * len(x))
    outward = np.zeros((count, rank + 1))
    for expert, own in enumerate(rows):
        outward[expert, :rank] = prior + _solve(seen[own], rest[own] - seen[own] @ prior, _FEATURE_ROWS)
        left = np.exp(np.clip(rest[own] - seen[own] @ outward[expert, :rank], -_LARGEST_RESIDUAL, _LARGEST_RESIDUAL))
        outward[expert, rank] = means[expert] + np.log((left.sum() + _MEAN_ROWS) / (len(own) + _MEAN_ROWS))
    inward = features.T / scale
    outward[:, rank] -= outward[:, :rank] @ (inward @ middle)
    return Head(inward.astype(np.float32), outward.astype(np.float32))


def no_head(columns: int, count: int, rank: int = RANK) -> Head:
    """One that says 1 of every expert."""
    return Head(np.zeros((rank, columns), np.float32), np.zeros((count, rank + 1), np.float32))


def _ridge(x: Doubles, y: Doubles) -> Doubles:
    """Weights [columns] for few rows [rows, columns]."""
    if not len(x):
        return np.zeros(x.shape[1])
    ridge = _OWN * x.shape[1]
    if len(x) < x.shape[1]:
        return x.T @ _inverse_times(x @ x.T, ridge, y)
    return _inverse_times(x.T @ x, ridge, x.T @ y)


def _inverse_times(matrix: Doubles, ridge: float, y: Doubles) -> Doubles:
    factor = inverse_factor(matrix + ridge * np.eye(len(matrix)))
    return factor.T @ (factor @ y)


def _solve(x: Doubles, y: Doubles, ridge: float) -> Doubles:
    return np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y).astype(np.float64, copy=False)


def _directions(matrix: Doubles, rank: int) -> Doubles:
    """The first `rank` left singular directions of a tall matrix; zeros where it has fewer."""
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    kept = np.argsort(-values)[:rank]
    found = matrix @ vectors[:, kept[values[kept] > 1e-12 * max(float(values.max()), 1e-300)]]
    return np.pad(found, ((0, 0), (0, rank - found.shape[1])))


def prices_of(values: Sequence[Doubles], sizes: Sequence[Doubles]) -> Floats:
    """Prices at which 0, 1, ... of `PRICES` - 1 equal parts of all bytes above the base planes are used.

    Args:
        values: what a plane of a routed expert mends for each byte. sizes: its bytes, or 0.
    """
    if not values:
        return np.zeros(PRICES, np.float32)
    value, size = np.concatenate(values), np.concatenate(sizes)
    order = np.argsort(-value, kind="stable")
    used = np.cumsum(size[order])
    steps = np.searchsorted(used, np.linspace(0, used[-1], PRICES))
    prices = value[order][np.minimum(steps, len(order) - 1)]
    prices[-1] = 0
    return np.maximum(np.minimum.accumulate(prices), 0).astype(np.float32)
