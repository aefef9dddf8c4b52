"""What the experts of a loaded model get of the process's budget, which may change between batches."""

from __future__ import annotations

import logging
import re
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgemoe import machine, running
from edgemoe.budget import MIB, SMALL_BATCH, Plan, margin, resolve_cache, resolve_memory, spare_memory, table
from edgemoe.errors import BudgetError
from edgemoe.loans import Loans, Room
from edgemoe.pressure import Follower, Pressure, Reading
from edgemoe.sizes import format_size

logger = logging.getLogger("edgemoe")

_CHECK_EVERY = 0.5
"""Seconds between two looks at the machine's memory."""

_TELL_EVERY = 2.0
"""Seconds between two looks at what other processes should know of a model."""

_open: weakref.WeakSet[Share] = weakref.WeakSet()


def promised_memory() -> int:
    """Bytes that the models of this process may still grow by."""
    return sum(share.pending for share in list(_open))


class Share:
    """The budget of one loaded model and the room that it leaves for experts.

    Created when the model's dense part and context are in memory and its cache is empty. All methods but the properties
    are called while nothing of the model computes.
    """

    def __init__(self, engine: Any, plan: Plan, name: str, experts_used: int, loans: Loans) -> None:
        self.budget: int | None = None
        self.changes = 0
        """How often the budget was changed since the load."""
        self.minimum_cache: int = engine.minimum_cache(experts_used)
        self._engine = engine
        self._plan = plan
        self._name = name
        self._loans = loans
        self._base = machine.rss() + promised_memory()
        self._held = machine.held_memory() + promised_memory()
        self._follower: Follower | None = None
        self._pressure = Pressure()
        self._next_check = 0.0

    def start(self, budget: int | None, memory: int | str | None, cache: int | float | str | None) -> None:
        """Sizes the cache for `budget`, which is what `memory` said before the load, or as `cache` says.

        Raises:
            BudgetError: the budget is too small.
        """
        self.budget = budget
        if cache is not None:
            full = self._engine.full_cache()
            self._engine.set_cache(min(resolve_cache(cache, full), full))
        else:
            self._loans.change_room(lambda: self._room(budget))
            self._follow(memory)
        _open.add(self)

    def set_memory(self, memory: int | str | None) -> None:
        """Changes the budget; from now on it rules the cache, whatever `cache=` was given.

        Raises:
            BudgetError: it is too small, no size, or more than the system gives; nothing has changed then.
        """
        machine.return_free_memory()
        budget = resolve_memory(memory)
        if budget is not None and memory == "auto":
            budget = max(budget, self.smallest())
        self._change(budget)
        self._follow(memory)

    def follow(self) -> None:
        """Between batches: adapts a budget of "auto" to what the machine has left."""
        now = time.monotonic()
        if self._follower is None or self.budget is None or now < self._next_check:
            return
        self._next_check = now + _CHECK_EVERY
        reading = Reading(now, machine.rss(), machine.available_memory(), self._pressure.since_last(now))
        smallest = self.smallest()
        wanted = self._follower.wanted(reading, self.budget, smallest, self._largest(smallest))
        if wanted == self.budget:
            return
        before = self.budget
        try:
            self._change(wanted)
        except BudgetError as error:  # what the process holds has changed since `smallest` was found
            logger.debug("the budget stays as it is: %s", error)
            return
        sizes = format_size(before), format_size(wanted), format_size(reading.available)
        logger.info("the budget was %s and is %s: %s are available", *sizes)

    def smallest(self) -> int:
        """Bytes of the smallest budget that works now."""
        return self._others() + self._smallest_room()

    @property
    def pending(self) -> int:
        """Bytes promised to this model that are not yet in the process's resident set."""
        engine = self._engine
        if engine is None:
            return 0
        stats = engine.stats()
        return int(stats["cache_bytes"] - stats["resident_bytes"] + self._plan.parts["working memory"])

    @property
    def follows(self) -> bool:
        """Whether the budget follows what the machine has left."""
        return self._follower is not None

    def end(self) -> None:
        """The engine is going away."""
        _open.discard(self)
        self._engine = self._follower = None

    def _change(self, budget: int | None) -> None:
        self._loans.change_room(lambda: self._room(budget))
        if budget != self.budget:
            self.changes += 1
        self.budget = budget

    def _follow(self, memory: int | str | None) -> None:
        self._follower = Follower(spare_memory) if memory == "auto" else None

    def _others(self) -> int:
        """What the budget has to hold beside the experts, loans, and what prompts compute in.

        Memory that the process took or freed since the load counts. The working memory and the buffers of small batches
        are promised: part of them is in use by now, and nobody knows how much.
        """
        own = self._engine.stats()["resident_bytes"]
        promised = promised_memory() - (self.pending if self in _open else 0)
        now = self._base + machine.held_memory() - own + promised - self._held
        allowance = self._plan.parts["working memory"] + self._plan.batch_bytes(SMALL_BATCH)
        return max(min(self._base, now) + allowance, now - self._loans.total)

    def _smallest_room(self) -> int:
        prompt = self._plan.prompt_bytes(self._plan.shape.n_ubatch)
        return prompt + sum(self._loans.standing.values()) + self.minimum_cache

    def _largest(self, smallest: int) -> int:
        """The budget from which on nothing is read twice."""
        whole = smallest - self.minimum_cache + self._engine.full_cache()
        return whole + max(margin(whole), whole // 63 + 1)  # the margin is 1/64 of the result

    def _room(self, budget: int | None) -> Room | None:
        """What the budget leaves for experts while single tokens are computed."""
        if budget is None:
            return None
        others, smallest = self._others(), self._smallest_room()
        if budget < others + smallest:
            raise BudgetError(self._too_small(budget, others + smallest))
        return Room(max(budget - others - margin(budget), smallest), self.minimum_cache, self._engine.full_cache())

    def _too_small(self, budget: int, smallest: int) -> str:
        works = f"{smallest // MIB + 1} MiB"  # not rounded to three digits: it is to be taken literally
        kept = {name: size for name, size in self._plan.parts.items() if size and name != "margin"}
        kept.pop("Python and libraries")
        lent: Counter[str] = Counter()
        for name, loan in self._loans.standing.items():
            lent[re.sub(r" \d+$", "s", name)] += loan  # "state 123" and "state 456" are "states"
        rest = smallest - self.minimum_cache - sum(kept.values()) - sum(lent.values())
        sizes = {"Python and the program": max(0, rest), **kept, **lent}
        sizes |= {"experts, at the least": self.minimum_cache, "smallest budget": smallest}
        return (
            f"a budget of {format_size(budget)} is too small for {self._name}: the smallest is {works} now\n"
            f"{table(sizes)}\n"
            f"  Only experts can shrink while a model is loaded: its context (n_ctx={self._plan.shape.n_ctx}) and "
            "compute buffers keep their size until it is loaded anew."
        )


class News:
    """What other processes are told of a loaded model (see `running`); `share` is None for one without experts."""

    def __init__(self, engine: Any, share: Share | None, name: str, paths: Sequence[Path]) -> None:
        self._engine = engine
        self._share = share
        self._next = 0.0
        files = [str(path.absolute()) for path in paths]
        self._announcement = running.announce(model=name, paths=files, **self._facts(engine))

    def tell(self, *, at_once: bool = False) -> None:
        """Says what has changed, at most every few seconds, counted from the first request's end."""
        now, engine = time.monotonic(), self._engine
        if engine is not None and (at_once or now >= self._next):
            self._next = 0.0 if at_once else now + _TELL_EVERY
            self._announcement.update(**self._facts(engine))

    def end(self) -> None:
        """The model is going away."""
        self._announcement.end()
        self._engine = self._share = None

    def _facts(self, engine: Any) -> dict[str, Any]:
        stats, share = engine.stats(), self._share
        bits = stats["used_bits"] / stats["used_weights"] if stats["used_weights"] else 0.0
        return {"budget": share and share.budget, "follows": bool(share and share.follows), "bits": round(bits, 2)}
