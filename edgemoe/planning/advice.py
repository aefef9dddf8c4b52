"""Settings to recommend from forecasts."""

from __future__ import annotations

from dataclasses import dataclass

from edgemoe.planning.forecast import Forecast, Forecaster
from edgemoe.planning.machines import Machine

COMFORTABLE = 8.0
"""Tokens per second: somewhat faster than people read."""
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
    """The best quality that is fast enough, or the fastest, with `budget` or what the machine can spare.

    Raises:
        BudgetError: when the budget is too small for the model.
    """
    forecasts = []
    for candidate in [quality] if quality else forecaster.qualities:
        room = budget or min(machine.spare_memory, forecaster.budget_for(1.0, candidate))
        forecasts.append(forecaster.forecast(machine, room, candidate))
    enough = [forecast for forecast in forecasts if forecast.token.per_second >= COMFORTABLE]
    best = enough[0] if enough else max(forecasts, key=lambda forecast: forecast.token.per_second)
    return Advice(best, forecaster.packed(machine, best.budget))
