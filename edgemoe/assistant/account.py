"""Money: what answers that are under way may still cost, so that all of them together stay inside the budget."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edgemoe.cloud import Ledger


class Spending:
    """What one answer has cost; counted in the ledger when it ends, however it ends."""

    def __init__(self) -> None:
        self.cost = 0.0


class Account:
    """The ledger, less what is reserved by answers that have not ended."""

    def __init__(self, ledger: Ledger, per_day: float | None) -> None:
        self._ledger, self._per_day = ledger, per_day
        self.reserved = 0.0  # money
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
    def spending(self, endpoint: str, reserved: float) -> Iterator[Spending]:
        """Reserves money, and counts `Spending.cost` when the block ends."""
        with self._lock:
            self.reserved += reserved
        spending = Spending()
        try:
            yield spending
        finally:
            try:
                if spending.cost > 0:
                    self._ledger.add(endpoint, spending.cost)
            finally:
                with self._lock:
                    self.reserved -= reserved
