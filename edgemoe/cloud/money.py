"""Budgets: how much money, and for how long."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

_Day = datetime.date

_FIRST: dict[str, Callable[[_Day], _Day]] = {
    "day": lambda day: day,
    "week": lambda day: day - datetime.timedelta(day.weekday()),
    "month": lambda day: day.replace(day=1),
}
"""The first day of the period that a day is in."""
_DAYS = {"day": 1, "week": 7, "month": 30}
_NOW = {"day": "today", "week": "this week", "month": "this month"}
_EXAMPLES = 'such as "1.50/day", "10/week" or "30/month"'
_MOST = 1e9


@dataclass(frozen=True)
class Budget:
    """Money for a calendar day, a week (from Monday), or a month of this machine, in the unit of the endpoints' prices.

    Raises:
        ValueError: for another `unit`, and for an amount that is below 0, above a milliard, or no number.
    """

    amount: float
    unit: str = "day"

    def __post_init__(self) -> None:
        if self.unit not in _FIRST:
            raise ValueError(f"for a {', a '.join(_FIRST)}, not for a {self.unit!r}")
        if not (math.isfinite(self.amount) and 0 <= self.amount <= _MOST):
            raise ValueError(f"money from 0 to {_MOST:g}")

    @classmethod
    def parse(cls, text: object) -> Budget:
        """Of "1.50/day". ValueError says what it should have been."""
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*/\s*(\w+)\s*", text) if isinstance(text, str) else None
        if not match or match[2].lower() not in _FIRST:
            raise ValueError(f"money for a day, a week or a month, {_EXAMPLES}")
        return cls(float(match[1]), match[2].lower())

    @property
    def per_day(self) -> float:
        """A day's part of it; a month is taken as 30 days."""
        return self.amount / _DAYS[self.unit]

    @property
    def now(self) -> str:
        """The period that it is for now, in words."""
        return _NOW[self.unit]

    def covers(self, day: _Day, today: _Day) -> bool:
        """Whether what was spent on `day` counts today."""
        first = _FIRST[self.unit]
        return first(day) == first(today)

    def __str__(self) -> str:
        return f"{self.amount:g}/{self.unit}"
