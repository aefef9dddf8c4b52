"""When to ask again."""

from __future__ import annotations

import random
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

LONGEST_WAIT = 20.0
"""Seconds. A server that asks for more is not waited for: something else answers."""

_FIRST, _MOST = 0.5, 8.0


def pause(attempt: int, retry_after: float | None) -> float | None:
    """Seconds before the attempt after `attempt` (from 0); None when the server asks for too long a pause.

    Exponential backoff with full jitter (AWS Architecture Blog, 2015): uniform from 0 to the smaller of a cap and
    base x 2^attempt, on top of what the server asks for.
    """
    if retry_after is not None and retry_after > LONGEST_WAIT:
        return None
    return (retry_after or 0.0) + random.uniform(0, min(_MOST, _FIRST * 2**attempt))


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, given as such or as a date (RFC 9110, section 10.2.3).

    None where there is none, or nothing of either kind.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:  # "-0000"
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - (now or datetime.now(timezone.utc))).total_seconds())
