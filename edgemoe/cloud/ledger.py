"""What cloud answers have cost, by day and endpoint, and what those under way may cost, in a file."""

from __future__ import annotations

import datetime
import math
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgemoe.cloud.book import Book, Reservation, pack, unpack
from edgemoe.cloud.money import Budget
from edgemoe.errors import EdgeMoEError, ReadError
from edgemoe.files import locked, reason, replace_file
from edgemoe.processes import this_process

_TODAY = Budget(0)


class Ledger:
    """Counts money by day. Processes may share its file, and a crash loses nothing that was counted.

    Money is reserved before a request and settled behind it, so that processes that share a budget keep it together. A
    process that ends without settling leaves behind what its reservation is known to have cost (`note`), which counts
    as spent; the rest is free again.

    Days are this machine's, and money has the unit of the endpoints' prices. A damaged file is never replaced: whoever
    wants to begin anew moves it away.

    Raises:
        ReadError: from every method, when the file cannot be read or is damaged.
        WriteError: when it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    # Requests

    def reserve(self, endpoint: str, budget: Budget, wanted: Callable[[float], tuple[float, float]]) -> Reservation:
        """Sets money aside for one request.

        `wanted` gets the money that is left, while no other process or thread can reserve any, and returns what the
        request costs at least and at most. It may raise, and then nothing is reserved.

        Raises:
            EdgeMoEError: when it wants more than is left.
        """
        with locked(self.path):
            book = self._read()
            left = _left(book, budget)
            least, most = (_checked(cost) for cost in wanted(left))
            if most > left * (1 + 1e-9):
                raise EdgeMoEError(f"the budget of {budget} has {left:.4g} left, not {most:.4g}")
            found = Reservation(uuid.uuid4().hex, endpoint, _today(), least, most, *this_process())
            book.reserved[found.id] = found
            self._write(book)
        return found

    def note(self, reservation: Reservation, cost: float) -> Reservation:
        """Tells that a request has cost so much already; the reservation as it is now."""
        with locked(self.path):
            book = self._read()
            if reservation.id not in book.reserved:  # counted by a process that cannot see this one
                return reservation
            found = replace(reservation, least=_checked(cost))
            book.reserved[found.id] = found
            self._write(book)
        return found

    def settle(self, reservation: Reservation, cost: float) -> None:
        """Counts what a request has cost in the end, for today, and frees the rest of its reservation."""
        cost = _checked(cost)
        with locked(self.path):
            book = self._read()
            if book.reserved.pop(reservation.id, None) is None:
                cost = max(0.0, cost - reservation.least)
            book.count(_today(), reservation.endpoint, cost)
            self._write(book)

    def add(self, endpoint: str, cost: float) -> None:
        """Counts `cost` for today."""
        cost = _checked(cost)
        with locked(self.path):
            book = self._read()
            book.count(_today(), endpoint, cost)
            self._write(book)

    # Sums

    def spent(self, budget: Budget | None = None) -> float:
        """Money spent in the budget's day, week or month; today without one."""
        return math.fsum(self.by_endpoint(budget).values())

    def by_endpoint(self, budget: Budget | None = None) -> dict[str, float]:
        """As `spent`, by endpoint."""
        return _spent(self._read(), budget or _TODAY)

    def reserved(self) -> float:
        """Money that requests under way may still cost, in all processes."""
        return self._read().set_aside

    def left(self, budget: Budget) -> float:
        """What a budget still has, without what is reserved; 0 when it is spent."""
        return _left(self._read(), budget)

    # The file

    def _read(self) -> Book:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return Book()
        except OSError as error:
            raise ReadError(f"the ledger {self.path} cannot be read: {reason(self.path, error)}") from error
        book = unpack(data)
        if book is None:
            raise ReadError(f"{self.path} is damaged or no ledger of this version; move it away to count from zero")
        return book

    def _write(self, book: Book) -> None:
        replace_file(self.path, pack(book))


def _spent(book: Book, budget: Budget) -> dict[str, float]:
    today = datetime.date.today()
    found: dict[str, list[float]] = {}
    for day, costs in book.days.items():
        if budget.covers(datetime.date.fromisoformat(day), today):
            for endpoint, cost in costs.items():
                found.setdefault(endpoint, []).append(cost)
    return {endpoint: math.fsum(costs) for endpoint, costs in found.items()}


def _left(book: Book, budget: Budget) -> float:
    return max(0.0, budget.amount - math.fsum(_spent(book, budget).values()) - book.set_aside)


def _today() -> str:
    return datetime.date.today().isoformat()


def _checked(cost: float) -> float:
    if not math.isfinite(cost) or cost < 0:
        raise EdgeMoEError(f"a cost must be a number from 0, not {cost!r}")
    return cost
