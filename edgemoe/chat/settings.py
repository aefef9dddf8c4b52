"""How answers are sampled, as the command line and /set take it."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgemoe.errors import EdgeMoEError

MOST_SEED = 2**32 - 2


@dataclass(frozen=True)
class Setting:
    """A number with a range. `absent` says what holds without one."""

    name: str
    kind: type[int] | type[float]
    help: str
    default: int | float | None = None
    least: int | None = None
    most: int | None = None
    absent: str = ""

    def parse(self, text: str) -> int | float:
        """Raises EdgeMoEError for what is no such number."""
        try:
            value = self.kind(text)
        except ValueError:
            value = math.nan
        low, high = -math.inf if self.least is None else self.least, math.inf if self.most is None else self.most
        if math.isfinite(value) and low <= value <= high:
            return value
        raise EdgeMoEError(f"{self.name} {text!r} cannot be used: it takes {self.range}")

    @property
    def range(self) -> str:
        """For people."""
        number = "a whole number" if self.kind is int else "a number"
        if self.most is not None:
            return f"{number} from {self.least} to {self.most}"
        return number if self.least is None else f"{number} of {self.least} or more"


SAMPLING = (
    Setting("temperature", float, "0: the likeliest token.", 0.7, least=0),
    Setting("top_p", float, "", 0.95, least=0, most=1),
    Setting("top_k", int, "0 for no limit.", 40),
    Setting("min_p", float, "", 0.05, least=0, most=1),
    Setting("seed", int, "Repeat an answer.", least=0, most=MOST_SEED, absent="random"),
    Setting("max_tokens", int, "Per answer.", least=1, absent="what fits"),
)


def random_seed() -> int:
    """One that no user gave."""
    return secrets.randbelow(MOST_SEED + 1)


class Settings:
    """The numbers of a chat, and how it shows thoughts.

    Where nothing was set, `own_defaults` hold, with another seed for every answer; without them, the models' own.
    """

    def __init__(self, given: Mapping[str, Any], *, own_defaults: bool) -> None:
        self._own_defaults = own_defaults
        self._defaults = {s.name: s.default for s in SAMPLING if s.default is not None} if own_defaults else {}
        self._set = {name: value for name, value in given.items() if value is not None}
        self.thinking_shown = False

    def set(self, name: str, text: str) -> None:
        """Sets a number, or takes its default again ("default").

        Raises:
            EdgeMoEError: for an unknown name, or a value out of range.
        """
        from edgemoe.config.tables import nearest

        setting = next((setting for setting in SAMPLING if setting.name == name), None)
        if name == "thinking":
            self.thinking_shown = _shown(text)
        elif setting is None:
            near = nearest(name, self.names)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(self.names)}"
            raise EdgeMoEError(f"there is no setting {name!r}: {hint}")
        elif text == "default" or text == setting.absent != "":
            self._set.pop(name, None)
        else:
            self._set[name] = setting.parse(text)

    def get(self, name: str) -> Any:
        """Its value, None where there is none."""
        return self._set.get(name, self._defaults.get(name))

    def sampling(self) -> dict[str, Any]:
        """For `reply`: what has a value."""
        drawn = {"seed": random_seed()} if self._own_defaults else {}
        return drawn | self._defaults | self._set

    def rows(self) -> list[tuple[str, str]]:
        """For people."""
        rows = []
        for setting in SAMPLING:
            value = self.get(setting.name)
            unset = setting.absent if self._own_defaults else "as configured"
            rows.append((setting.name, unset if value is None else f"{value:g}" if value < 1e6 else str(value)))
        return [*rows, ("thinking", "shown" if self.thinking_shown else "folded")]

    @property
    def names(self) -> list[str]:
        """All that /set knows."""
        return [*(setting.name for setting in SAMPLING), "thinking"]

    @property
    def given(self) -> dict[str, Any]:
        """What differs from the defaults, to be kept with a conversation."""
        return dict(self._set)

    def take(self, kept: Mapping[str, Any]) -> None:
        """What `given` was, except for what is set already. Raises EdgeMoEError as `set` does."""
        for name, value in kept.items():
            if name not in self._set:
                self.set(name, str(value))


def _shown(text: str) -> bool:
    if text not in ("shown", "folded", "default"):
        raise EdgeMoEError(f"thinking {text!r} cannot be used: it is shown or folded")
    return text == "shown"
