"""Settings to recommend from forecasts."""

from __future__ import annotations

from dataclasses import dataclass

from edgemoe.planning.forecast import Forecast, Forecaster
from edgemoe.planning.machines import Machine

COMFORTABLE = 8.0
"""Tokens per second: somewhat faster than people read."""
NEARLY = 0.95
"""Share of the speed with more memory at which more memory is not worth it."""
_SHARES = tuple(i / 20 for i in range(1, 20))
WORTH_PACKING = 1.2
"""Times the speed, below which a loss of precision buys too little."""


@dataclass(frozen=True)
class Advice:
    """`best` is the recommended setting; `packed` what a pack of this file would do at it, by level."""

    best: Forecast
    packed: dict[int, Forecast]

    @property
    def pack_level(self) -> int | None:
        """The highest level of a pack that would be worth its loss of precision, if any is."""
        worth = [
            level
            for level, forecast in self.packed.items()
            if forecast.token.per_second >= WORTH_PACKING * self.best.token.per_second
        ]
        return max(worth, default=None)


def advise(forecaster: Forecaster, machine: Machine, budget: int | None = None, quality: str | None = None) -> Advice:
    """The best quality that is fast enough, or else the fastest, with `budget` or as much memory as is useful.

    Raises:
        BudgetError: when the budget, or what the machine can spare, is too small for the model.
    """
    forecasts = []
    for candidate in [quality] if quality else forecaster.qualities:
        if budget is None:
            forecasts.append(_useful(forecaster, machine, candidate))
        else:
            forecasts.append(forecaster.forecast(machine, budget, candidate))
    enough = [forecast for forecast in forecasts if forecast.token.per_second >= COMFORTABLE]
    best = enough[0] if enough else max(forecasts, key=lambda forecast: forecast.token.per_second)
    return Advice(best, forecaster.packed(machine, best.budget))


def _useful(forecaster: Forecaster, machine: Machine, quality: str) -> Forecast:
    """The smallest budget that the machine can spare and that is nearly as fast as the largest."""
    largest = forecaster.forecast(machine, min(machine.spare_memory, forecaster.budget_for(1.0, quality)), quality)
    for share in _SHARES:
        budget = forecaster.budget_for(share, quality)
        if budget >= largest.budget:
            break
        forecast = forecaster.forecast(machine, budget, quality)
        if forecast.token.per_second >= NEARLY * largest.token.per_second:
            return forecast
    return largest
