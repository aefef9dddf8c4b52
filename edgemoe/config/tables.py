"""Tables of a TOML file, read strictly: every error names the place, the key and, where there is one, the nearest."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from edgemoe.errors import BudgetError, ConfigError, ModelError
from edgemoe.sizes import parse_size

T = TypeVar("T")
Keys = tuple[str, ...]
Check = Callable[[Any], T]
"""Turns a value into what it means, or raises ValueError with what it should have been."""


@dataclass(frozen=True)
class Source:
    """Where values are from: a file's text, and the environment's variables for those that they replaced."""

    path: Path | None
    text: str = ""
    variables: Mapping[Keys, str] = field(default_factory=dict)

    def place(self, table: Keys, key: str | None = None) -> str:
        """For messages, up to the line where it can be found."""
        if key is not None and (table + (key,)) in self.variables:
            return f"the variable {self.variables[table + (key,)]}"
        line = _line(self.text, table, key)
        return f"{self.path}, line {line}" if line else str(self.path or "the configuration")


class Table:
    """One table. Each key is taken once; `end` refuses those that nobody took."""

    def __init__(self, values: Mapping[str, Any], keys: Keys, source: Source) -> None:
        self._values = dict(values)
        self._known: list[str] = []
        self.keys, self.source = keys, source

    def take(self, key: str, check: Check[T], default: Any = None) -> T:
        """The value of `key`, checked, or `default`."""
        self._known.append(key)
        if key not in self._values:
            absent: T = default
            return absent
        value = self._values.pop(key)
        try:
            return check(value)
        except (ValueError, BudgetError) as error:
            raise self.error(key, f"{self._name(key)} must be {error}, not {_shown(value)}") from None

    def need(self, key: str, check: Check[T]) -> T:
        """As `take`, for a key that must be there."""
        if key not in self._values:
            if written := nearest(key, self._values, cutoff=0.8):
                raise self.error(written, f"{self._title()} has no key {written!r}: did you mean {key}?")
            raise self.error(None, f"{self._title()} needs {key}")
        return self.take(key, check)

    def tables(self, key: str) -> dict[str, Table]:
        """The tables that lie in `key`, by name."""
        found = self.take(key, table, {})
        for name, values in found.items():
            if not isinstance(values, dict):
                raise self.error(key, f"[{key}] holds tables such as [{key}.{name}], not {name} = {_shown(values)}")
        return {name: Table(values, (*self.keys, key, name), self.source) for name, values in found.items()}

    def end(self) -> None:
        """Raises ConfigError for a key that is unknown."""
        for key in self._values:
            near = nearest(key, self._known)
            hint = f"did you mean {near}?" if near else f"it has {', '.join(sorted(self._known))}"
            raise self.error(key, f"{self._title()} has no key {key!r}: {hint}")

    def error(self, key: str | None, message: str) -> ConfigError:
        """For what is wrong with a key, or with the table."""
        return ConfigError(f"{self.source.place(self.keys, key)}: {message}")

    def _title(self) -> str:
        return f"[{'.'.join(self.keys)}]" if self.keys else "the configuration"

    def _name(self, key: str) -> str:
        return ".".join((*self.keys, key))


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that was probably meant."""
    plain = {re.sub(r"[_\W]", "", name).lower(): name for name in known}
    asked = re.sub(r"[_\W]", "", word).lower()
    if len(asked) > 1 and len(begun := [name for name in plain if name.startswith(asked)]) == 1:
        return plain[begun[0]]
    close = difflib.get_close_matches(asked, plain, n=1, cutoff=cutoff)
    return plain[close[0]] if close else None


# Checks


def text(value: Any) -> str:
    """Not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text in quotes")
    return value


def table(value: Any) -> dict[str, Any]:
    """A table or an inline one."""
    if not isinstance(value, dict):
        raise ValueError("a table")
    return value


def boolean(value: Any) -> bool:
    """Not 0 or 1, nor a text."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def number(least: float = -math.inf, most: float = math.inf) -> Check[float]:
    """Of any kind, finite, inside limits that belong to it."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise ValueError(f"a number {_range(least, most)}")
        if not math.isfinite(value):
            raise ValueError("a finite number")
        return float(value)

    return check


def integer(least: int, most: int = 1 << 40) -> Check[int]:
    """Whole, inside limits."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"a whole number {_range(least, most if most < 1 << 40 else math.inf)}")
        return value

    return check


def one_of(*choices: str) -> Check[str]:
    """One of a few words."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            near = nearest(value, choices) if isinstance(value, str) else None
            raise ValueError(f"one of {', '.join(choices)}{f' (did you mean {near}?)' if near else ''}")
        return value

    return check


def texts(check: Check[str] = text) -> Check[tuple[str, ...]]:
    """A list of texts, or one."""

    def checked(value: Any) -> tuple[str, ...]:
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or len(set(map(str, values))) != len(values):
            raise ValueError("a list of different texts")
        return tuple(map(check, values))

    return checked


def size(value: Any) -> str | int:
    """A size, a share of the machine's memory, or "auto"."""
    asked: str | int = value
    if asked != "auto":
        parse_size(asked, whole=1 << 40)
    return asked


def path_in(folder: Path, value: Any) -> Path:
    """A path, a relative one in `folder`; ~ is a home."""
    try:
        return folder / Path(text(value)).expanduser()
    except RuntimeError:
        raise ValueError("a path: nobody has this home") from None


def file_in(folder: Path) -> Check[Path]:
    """A file that exists; relative ones lie in `folder`."""

    def check(value: Any) -> Path:
        path = path_in(folder, value)
        if not path.is_file():
            raise ValueError("a file that exists")
        return path

    return check


def model_in(folder: Path) -> Check[Path]:
    """A model file, relative ones in `folder`, or the name of a model that was pulled."""

    def check(value: Any) -> Path:
        path = path_in(folder, value)
        if path.is_file():
            return path
        from edgemoe.hub import resolve

        try:
            return resolve(value)
        except ModelError as error:
            raise ValueError(f"a file that exists or the name of a model ({error})") from None

    return check


def _range(least: float, most: float) -> str:
    if math.isinf(most):
        return "" if math.isinf(least) else f"from {least:g}"
    return f"from {least:g} to {most:g}"


def _shown(value: Any) -> str:
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


# Lines: what tomllib does not tell. Texts of several lines that look like keys may mislead this, so it is only a help.

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]")
_ASSIGNMENT = re.compile(r"""\s*([\w."'-]+(?:\s*\.\s*[\w"'-]+)*)\s*=""")


def _line(text: str, table: Keys, key: str | None) -> int | None:
    """The line of a key, or else of its table, which may be an inline one."""
    places = _places(text)
    return (places.get((*table, key)) if key is not None else None) or places.get(table)


def _places(text: str) -> dict[Keys, int]:
    """Lines of headers and keys; tables of an array have their number, from 1, behind its name."""
    places: dict[Keys, int] = {}
    counts: dict[Keys, int] = {}
    current: Keys = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            name = _split(header[2])
            if header[1] == "[[":
                counts[name] = counts.get(name, 0) + 1
            array = next((a for a in counts if name[: len(a)] == a), None)
            current = name if array is None else (*array, str(counts[array]), *name[len(array) :])
            places.setdefault(current, number)
        elif assigned := _ASSIGNMENT.match(line):
            places.setdefault(current + _split(assigned[1]), number)
    return places


def _split(dotted: str) -> Keys:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
