"""Money: what answers that are under way may still cost, so that all of them together stay inside the budget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgemoe.cloud import Ledger
from edgemoe.errors import EdgeMoEError


class Spending:
    """What one answer has cost, and why that could not be counted if it could not.

    `allowed` is what it may cost at most: None without a limit.
    """

    def __init__(self, allowed: float | None) -> None:
        self.allowed = allowed
        self.cost = 0.0
        self.problem: str | None = None


class Account:
    """The ledger, less what is reserved by answers that have not ended.

    Other processes see what is in the ledger, and not what is reserved here.
    """

    def __init__(self, ledger: Ledger, per_day: float | None) -> None:
        self._ledger, self._per_day = ledger, per_day
        self.reserved = 0.0
        """Money for answers under way, and that which the ledger could not be told of."""
        self._lock = threading.Lock()

    def left(self) -> float | None:
        """Money that may be spent today; None without a limit."""
        if self._per_day is None:
            return None
        return max(0.0, self._ledger.left(self._per_day) - self.reserved)

    def spent(self) -> float:
        """Money spent today."""
        return self._ledger.spent()

    @contextmanager
    def spending(self, endpoint: str, wanted: Callable[[float | None], float]) -> Iterator[Spending]:
        """Reserves money, and counts `Spending.cost` when the block ends, however it ends.

        `wanted` is called with the money that is left (None without a limit), while nobody else can reserve any, and
        returns the most that the answer can cost. It may raise, and then nothing is reserved. What cannot be written
        stays reserved, so that the budget holds at least in this process.
        """
        with self._lock:
            reserved = wanted(self.left())
            self.reserved += reserved
        spending = Spending(reserved if self._per_day is not None else None)
        try:
            yield spending
        finally:
            with self._lock:
                self.reserved += self._count(endpoint, spending) - reserved

    def _count(self, endpoint: str, spending: Spending) -> float:
        """What stays reserved."""
        try:
            if spending.cost > 0:
                self._ledger.add(endpoint, spending.cost)
        except EdgeMoEError as error:
            spending.problem = f"what was spent is not counted: {error}"
            return spending.cost
        return 0.0
