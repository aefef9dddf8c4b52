"""Times as people and clients write them."""

from __future__ import annotations

import re

from edgemoe.errors import EdgeMoEError

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(s|m|h|)")
_PART = r"[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ns|us|µs|ms|s|m|h)"
_PARTS = re.compile(rf"([+-]?)((?:{_PART})+)")
_UNITS = {"": 1.0, "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float | None:
    """Seconds of "5m", "30s", "1h" or "90"; None for "never". Raises EdgeMoEError for others."""
    if text == "never":
        return None
    if match := _DURATION.fullmatch(text.strip().lower()):
        return float(match[1]) * _UNITS[match[2]]
    raise EdgeMoEError(f"{text!r} is no time: use 30s, 5m, 1h or never")


def parse_keep_alive(value: float | str) -> float | None:
    """Seconds of what ollama's clients send: 300, "5m", "1h30m", "500ms"; None where it is negative, which is for ever.

    Raises:
        EdgeMoEError: for others.
    """
    if isinstance(value, str):
        if re.fullmatch(r"[+-]?[0-9]{1,9}", value):
            return parse_keep_alive(float(value))
        match = _PARTS.fullmatch(value)
        if match is None:
            raise EdgeMoEError(f"{value!r} is no time: use seconds, or 30s, 5m, 1h30m; -1 is for ever")
        parts = re.findall(r"([0-9.]+)([a-zµ]+)", match[2])
        value = sum(float(number) * _UNITS[unit] for number, unit in parts) * (-1 if match[1] == "-" else 1)
    return value if value >= 0 else None
