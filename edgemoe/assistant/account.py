"""Money: what answers that are under way may still cost, so that all of them together stay inside the budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from edgemoe.cloud import Budget, Ledger, Reservation
from edgemoe.errors import CloudError, EdgeMoEError, ReadError, WriteError

Wanted = Callable[[float | None], tuple[float, float]]
"""From the money that is left (None without a limit) to the least and the most that an answer costs. It may raise."""

_SECONDS = 2.0
"""After which the ledger is told again what an answer has cost so far."""


class Spending:
    """What one answer has cost, and why that could not be counted if it could not.

    `allowed` is what it may cost at most: None without a limit.
    """

    def __init__(self, ledger: Ledger, endpoint: str, reservation: Reservation | None) -> None:
        self._ledger, self._endpoint, self._reservation = ledger, endpoint, reservation
        self._noted = time.monotonic()
        self.allowed = reservation.most if reservation else None
        self.cost = 0.0
        self.problem: str | None = None

    def note(self, cost: float) -> None:
        """Tells the ledger now and then what the answer has cost so far: this process may be killed."""
        now = time.monotonic()
        if self._reservation is None or now - self._noted < _SECONDS:
            return
        self._noted = now
        try:
            self._reservation = self._ledger.note(self._reservation, cost)
        except (ReadError, WriteError):  # the end says so, if it is still so then
            return

    def settle(self) -> None:
        """Counts the cost. Raises ReadError or WriteError when it cannot be counted."""
        if self._reservation is not None:
            self._ledger.settle(self._reservation, self.cost)
        elif self.cost > 0:
            self._ledger.add(self._endpoint, self.cost)


class Account:
    """The ledger under a budget, for one process. Without a budget nothing is reserved, only counted."""

    def __init__(self, ledger: Ledger, budget: Budget | None) -> None:
        self._ledger, self._budget = ledger, budget
        self._uncounted: list[Spending] = []
        self._lock = threading.Lock()

    def spent(self) -> float:
        """Money spent in the budget's day, week or month; today without one."""
        return self._ledger.spent(self._budget)

    @property
    def period(self) -> str:
        """What `spent` is of: "today"."""
        return (self._budget or Budget(0)).now

    @contextmanager
    def spending(self, endpoint: str, wanted: Wanted) -> Iterator[Spending]:
        """Reserves money, and counts `Spending.cost` when the block ends, however it ends.

        What cannot be counted stays reserved while this process lives, and is tried again with the next answer.

        Raises:
            CloudError: under a budget that no money can be reserved from, because the ledger cannot be used.
        """
        spending = self._begin(endpoint, wanted)
        try:
            yield spending
        finally:
            self._end(spending)

    def _begin(self, endpoint: str, wanted: Wanted) -> Spending:
        if self._budget is None:
            wanted(None)
            with suppress(ReadError, WriteError):
                self._count_again()
            return Spending(self._ledger, endpoint, None)
        try:
            self._count_again()
            return Spending(self._ledger, endpoint, self._ledger.reserve(endpoint, self._budget, wanted))
        except (ReadError, WriteError) as error:
            raise CloudError(f"what it costs cannot be counted: {error}") from error

    def _count_again(self) -> None:
        with self._lock:
            while self._uncounted:
                self._uncounted[-1].settle()
                self._uncounted.pop()

    def _end(self, spending: Spending) -> None:
        try:
            spending.settle()
        except EdgeMoEError as error:
            spending.problem = f"what was spent is not counted: {error}"
            with self._lock:
                self._uncounted.append(spending)
