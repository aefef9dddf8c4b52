"""Sizes in bytes as people write and read them."""

from __future__ import annotations

import re

from edgemoe.errors import BudgetError

_UNITS = {"": 1, "b": 1}
_UNITS |= {f"{p}ib": 1024**i for i, p in enumerate("kmgt", 1)}
_UNITS |= {p: 1024**i for i, p in enumerate("kmgt", 1)}
_UNITS |= {f"{p}b": 1000**i for i, p in enumerate("kmgt", 1)}

_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*")
_PERCENT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*")


def parse_size(value: int | str, *, whole: int | None = None) -> int:
    """Bytes of `value`: a number of bytes, "2GiB", "1.5G" (binary), "800MB" (decimal), or "50%" of `whole`.

    Raises:
        BudgetError: when `value` is not one of these.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise BudgetError(f"{value!r} is not a size: use bytes or text such as '2GiB'")
    try:
        size = _bytes(value, whole)
    except OverflowError:
        size = 1 << 63
    if size >= 1 << 63:
        raise BudgetError(f"{str(value)[:40]!r} is more than any machine has")
    if size <= 0:
        raise BudgetError(f"a size must be more than zero, not {value!r}")
    return size


def _bytes(value: int | str, whole: int | None) -> int:
    if isinstance(value, int):
        return value
    if match := _PERCENT.fullmatch(value):
        if whole is None:
            raise BudgetError(f"a share such as {value!r} means nothing here: use bytes or text such as '2GiB'")
        return int(float(match[1]) / 100 * whole)
    if (match := _SIZE.fullmatch(value)) and match[2].lower() in _UNITS:
        return int(float(match[1]) * _UNITS[match[2].lower()])
    raise BudgetError(f"{value!r} is not a size: use bytes or text such as '2GiB', '800MB' or '50%'")


def format_size(size: float) -> str:
    """`size` in binary units with three significant digits: 1536 -> '1.50 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1000 or unit == "GiB":
            digits = 0 if unit == "B" else 2 if abs(size) < 10 else 1 if abs(size) < 100 else 0
            return f"{size:.{digits}f} {unit}"
        size /= 1024
    raise AssertionError
