"""Memory that a model's experts lend to other uses, and get back."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from edgemoe.budget import MIB, Plan
from edgemoe.errors import BudgetError
from edgemoe.sizes import format_size

_PROMPT = "prompt"
_SMALL_LOAN = 4 * MIB


@dataclass(frozen=True)
class Room:
    """What a cache of experts and all loans from it share: `bytes`, with `smallest` to `largest` for the cache."""

    plan: Plan
    bytes: int
    smallest: int
    largest: int


class Loans:
    """What was taken out of the cache of `engine`, by use. Without a room the cache is left alone, whatever is lent."""

    def __init__(self, engine: Any, room: Room | None) -> None:
        self.room = room
        self._engine = engine
        self._loans: dict[str, int] = {}
        self._lock = threading.Lock()
        self._lent = 0

    @property
    def total(self) -> int:
        """Bytes that are lent, or will be when the cache is resized next."""
        return sum(self._loans.values())

    def can_lend(self, size: int) -> bool:
        """Whether a loan of `size` leaves the experts at least half of what they have."""
        return self.room is None or size <= (self.room.bytes - self._lent) // 2

    def lend(self, name: str, size: int) -> None:
        """Takes `size` bytes out of the cache for the use `name`, in place of what it had before.

        Raises:
            BudgetError: when the experts of one layer would not fit any more.
        """
        with self._lock:
            if self.room is not None and size > max(self._loans.get(name, 0), _SMALL_LOAN):
                self._check(self.room, name, size)
            self._loans[name] = size if size > _SMALL_LOAN else 0
        self._settle()

    def _check(self, room: Room, name: str, size: int) -> None:
        others = sum(loan for other, loan in self._loans.items() if other not in (name, _PROMPT))
        others += room.plan.prompt_bytes(room.plan.shape.n_ubatch)  # a prompt may come at any time
        left = room.bytes - others - room.smallest
        if size > left:
            leaves = format_size(max(0, left))
            raise BudgetError(f"{format_size(size)} for {name} do not fit into the budget, which leaves {leaves}")

    def give_back(self, name: str) -> None:
        """Ends a loan; the cache grows before the next batch."""
        with self._lock:
            self._loans.pop(name, None)

    def make_room_for(self, tokens: int) -> None:
        """Experts give way to the buffers of a prompt, and get the memory back when single tokens follow."""
        if self.room is not None:
            wanted, had = self.room.plan.prompt_bytes(tokens), self._loans.get(_PROMPT, 0)
            if wanted > had or (had and not wanted):
                if not wanted:
                    self._engine.release_compute()
                with self._lock:
                    self._loans[_PROMPT] = wanted
        self._settle()

    def end(self) -> None:
        """Leaves the cache alone from now on: its engine is going away."""
        with self._lock:
            self.room = self._engine = None

    def _settle(self) -> None:
        with self._lock:
            total = self.total
            if self.room is None or total == self._lent:
                return
            self._engine.set_cache(max(self.room.smallest, min(self.room.largest, self.room.bytes - total)))
            self._lent = total
