"""Memory that a model's experts lend to other uses, and get back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgemoe.budget import MIB, Plan
from edgemoe.errors import BudgetError
from edgemoe.machine import return_free_memory
from edgemoe.sizes import format_size

_PROMPT = "prompt"
_SMALL_LOAN = 4 * MIB


@dataclass(frozen=True)
class Room:
    """What a cache of experts and all loans from it share: `bytes`, with `smallest` to `largest` for the cache."""

    bytes: int
    smallest: int
    largest: int


class Loans:
    """What was taken out of the cache of `engine`, by use. Without a room the cache is left alone, whatever is lent.

    `plan` is that of the model; None for a dense one, which has no cache.
    """

    def __init__(self, engine: Any, plan: Plan | None) -> None:
        self.room: Room | None = None
        self._plan = plan
        self._engine = engine
        self._loans: dict[str, int] = {}
        self._lock = threading.RLock()  # a state may be collected, and give its loan back, while this thread holds it
        self._lent = 0

    @property
    def total(self) -> int:
        """Bytes that are lent, or will be when the cache is resized next."""
        return sum(self._loans.values())

    @property
    def standing(self) -> dict[str, int]:
        """Bytes by use, of all loans but a prompt's."""
        return {name: loan for name, loan in list(self._loans.items()) if loan and name != _PROMPT}

    def change_room(self, room_for: Callable[[], Room | None]) -> None:
        """Gives the cache and its loans the room that `room_for` finds, while no loan changes; None is no limit.

        Whatever is raised, by `room_for` or by a system that has no memory for the larger cache, nothing changes.
        Not while the engine computes.
        """
        with self._lock:
            room, before = room_for(), self._engine.stats()["cache_bytes"]
            try:
                self._resize(room)
            except BaseException:
                if self.room is None:
                    self._engine.set_cache(before)
                else:
                    self._resize(self.room)
                raise
            self.room = room

    def can_lend(self, size: int) -> bool:
        """Whether a loan of `size` leaves the experts at least half of what they have."""
        return self.room is None or size <= (self.room.bytes - self._lent) // 2

    def lend(self, name: str, size: int) -> None:
        """Takes `size` bytes out of the cache for the use `name`, in place of what it had before.

        Raises:
            BudgetError: when the experts of one layer would not fit any more.
        """
        with self._lock:
            if self.room is not None and self._plan is not None and size > max(self._loans.get(name, 0), _SMALL_LOAN):
                self._check(self.room, self._plan, name, size)
            self._loans[name] = size if size > _SMALL_LOAN else 0
        self._settle()

    def _check(self, room: Room, plan: Plan, name: str, size: int) -> None:
        others = sum(loan for other, loan in self.standing.items() if other != name)
        others += plan.prompt_bytes(plan.shape.n_ubatch)  # a prompt may come at any time
        left = room.bytes - others - room.smallest
        if size > left:
            leaves = format_size(max(0, left))
            raise BudgetError(f"{format_size(size)} for {name} do not fit into the budget, which leaves {leaves}")

    def give_back(self, name: str) -> None:
        """Ends a loan; the cache grows before the next batch."""
        with self._lock:
            self._loans.pop(name, None)

    def make_room_for(self, tokens: int, context: int | None = None) -> None:
        """Experts give way to the buffers of a prompt, and get the memory back when single tokens follow.

        context: tokens that the batch attends to; a full context unless it is given.
        """
        if self._plan is not None:
            wanted, had = self._plan.prompt_bytes(tokens, context), self._loans.get(_PROMPT, 0)
            if had and not wanted and self.room is not None:  # without a budget the buffers keep their pages
                self._engine.release_compute()
                return_free_memory()
                self._set_prompt(0)
            elif wanted > had:
                self._set_prompt(wanted)
        self._settle()

    def _set_prompt(self, size: int) -> None:
        with self._lock:
            self._loans[_PROMPT] = size

    def end(self) -> None:
        """Leaves the cache alone from now on: its engine is going away."""
        with self._lock:
            self.room = self._engine = None

    def _settle(self) -> None:
        with self._lock:
            if self.room is not None and self.total != self._lent:
                self._resize(self.room)

    def _resize(self, room: Room | None) -> None:
        total = self.total
        wanted = max(room.smallest, min(room.largest, room.bytes - total)) if room else self._engine.full_cache()
        self._engine.set_cache(wanted)
        self._lent = total
