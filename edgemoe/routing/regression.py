"""Ridge regression of how much better or worse routes answer than expected.

The surprise of route a at embedding x is (beta + gamma_a) . x, with beta for all routes and gamma_a for one. Rated
answers add to A = diag(L) + sum phi phi' and b = sum phi surprise, where phi has x in the place of beta and in that of
gamma_a; the weights are A^-1 b, and phi' A^-1 phi is how little is known of a route at x.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgemoe.errors import EdgeMoEError

Vector = npt.NDArray[np.float64]

MOST_ROUTES = 8

_SHARED, _OWN = (3.0, 30.0), (5.0, 240.0)
"""L of beta and of each gamma: of an embedding's constant, and of all else. So it is quickly known which route is good
on the whole, and believed late that it is only good for some prompts."""


class Regression:
    """For embeddings of `size` numbers, the first of them constant.

    `precision` is A and `moment` b: a block for beta, then one for each of `routes`.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.routes: list[str] = []
        self.precision: Vector = _prior(size, _SHARED)
        self.moment: Vector = np.zeros(size)
        self.count = 0
        self._solution: tuple[Vector, Vector] | None = None

    def add(self, x: Vector, route: str, surprise: float) -> None:
        """Learns from one rated answer."""
        own, outer = self._place(route), np.outer(x, x)
        for rows in (slice(0, self.size), own):
            for columns in (slice(0, self.size), own):
                self.precision[rows, columns] += outer
            self.moment[rows] += surprise * x
        self.count += 1
        self._solution = None

    def weights(self, routes: Sequence[str]) -> Vector:
        """beta + gamma of each route (size, routes)."""
        known = [self._place(route) for route in routes]
        _, theta = self._solved()
        return np.stack([theta[: self.size] + theta[own] for own in known], axis=1)

    def deviation(self, x: Vector, route: str) -> float:
        """sqrt(phi' A^-1 phi)."""
        blocks = slice(0, self.size), self._place(route)
        inverse, _ = self._solved()
        variance = sum(float(x @ inverse[rows, columns] @ x) for rows in blocks for columns in blocks)
        return float(np.sqrt(max(variance, 0.0)))

    def _place(self, route: str) -> slice:
        """Of a route's block; a new one gets one."""
        if route not in self.routes:
            if len(self.routes) >= MOST_ROUTES:
                known = ", ".join(self.routes)
                raise EdgeMoEError(f"feedback knows {known}: there is no room for {route}, reset it")
            self.routes.append(route)
            old, length = self.precision, len(self.moment)
            self.precision = np.zeros((length + self.size, length + self.size))
            self.precision[:length, :length] = old
            self.precision[length:, length:] = _prior(self.size, _OWN)
            self.moment = np.append(self.moment, np.zeros(self.size))
            self._solution = None
        first = self.size * (1 + self.routes.index(route))
        return slice(first, first + self.size)

    def _solved(self) -> tuple[Vector, Vector]:
        """A^-1 and A^-1 b."""
        if self._solution is None:
            inverse: Vector = np.linalg.inv(self.precision).astype(np.float64, copy=False)
            self._solution = inverse, inverse @ self.moment
        return self._solution


def _prior(size: int, precisions: tuple[float, float]) -> Vector:
    constant, rest = precisions
    return np.diag([constant] + [rest] * (size - 1))
