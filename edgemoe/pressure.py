"""Memory pressure while a model runs: a policy that says how large the budget should be, and a gauge of stalls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgemoe import machine

QUIET = 30.0
"""Seconds without pressure after which the budget grows a step."""
LONGEST_QUIET = 600.0
STEPS = 8
"""Steps of growing from the smallest budget to the largest."""
SETTLE = 2.0
"""Seconds that a smaller budget is given to end stalls."""
STALLED = 0.1
"""Share of the time during which some process waited for memory that is pressure; a tenth of it is no calm."""


@dataclass(frozen=True)
class Reading:
    """The machine at one moment: seconds of a clock, and bytes."""

    time: float
    used: int
    """By this process."""
    available: int
    """To this process, beyond what it uses."""
    stalled: float = 0.0
    """Share of the time since the last reading during which some process waited for memory."""


class Follower:
    """How large a budget should be, given what the machine has left. Pure: it reads no clock and no file.

    Others should keep `spare(free)` bytes of the `free` ones that this process could take beyond its smallest budget.
    The budget shrinks at once when less than half of that would be left, or when processes stall. It grows by a
    step of 1/STEPS when there was room for it during all of the last `quiet` seconds. These double with each time that
    shrinking follows on growing, so that ever more rarely a budget grows that is going to shrink again.
    """

    def __init__(self, spare: Callable[[int], int]) -> None:
        self.quiet = QUIET
        self._spare = spare
        self._calm_since: float | None = None
        self._room = 0  # the least that there was for growing since then
        self._last_cut: float | None = None
        self._has_grown = False

    def wanted(self, reading: Reading, budget: int, smallest: int, largest: int) -> int:
        """The budget to have from now on, in bytes, in place of `budget`.

        It is never below `smallest`, unless `budget` is, and grows at most to `largest`.
        """
        attainable = reading.used + reading.available
        spare = self._spare(attainable - smallest)
        expected = max(reading.used, min(budget, largest))  # what the process uses once the budget is used up
        left = attainable - expected
        step = max(1, (largest - smallest) // STEPS)
        lowest = smallest + step // 16  # below it there is nothing worth keeping
        if 2 * left < spare:
            cut = attainable - spare
            return self._shrunk(reading.time, budget, cut if cut > lowest else smallest)
        if reading.stalled > STALLED and left < 2 * spare:
            settled = self._last_cut is None or reading.time - self._last_cut >= SETTLE
            cut = expected - step if settled else budget
            return self._shrunk(reading.time, budget, cut if cut > lowest else smallest)
        room = min(left - spare, largest - budget)
        if reading.stalled > STALLED / 10 or room < step // 4:
            self._calm_since = None
            return budget
        return self._grown(reading.time, budget, room, step)

    def _shrunk(self, now: float, budget: int, wanted: int) -> int:
        self._calm_since = None
        if wanted >= budget:
            return budget
        if self._last_cut is not None and now - self._last_cut > LONGEST_QUIET:
            self.quiet = max(QUIET, self.quiet / 2)
        elif self._last_cut is not None and self._has_grown:
            self.quiet = min(LONGEST_QUIET, self.quiet * 2)
        self._last_cut = now
        self._has_grown = False
        return wanted

    def _grown(self, now: float, budget: int, room: int, step: int) -> int:
        if self._calm_since is None:
            self._calm_since, self._room = now, room
        self._room = min(self._room, room)
        if now - self._calm_since < self.quiet:
            return budget
        self._calm_since = None
        self._has_grown = True
        return budget + (step if self._room - step > step // 4 else self._room)  # no small step is left over


class Pressure:
    """The share of the time during which some process waited for memory; always 0 where the system does not tell."""

    def __init__(self) -> None:
        self._time = 0.0
        self._stalls: dict[str, float] = {}

    def since_last(self, now: float) -> float:
        """The share since the call before, of the system or of this process's control group; `now` in seconds."""
        before, stalls = self._stalls, machine.memory_stalls()
        passed = now - self._time
        self._time, self._stalls = now, stalls
        if passed <= 0:
            return 0.0
        return max((min(1.0, (stalls[name] - before[name]) / passed) for name in stalls if name in before), default=0.0)
