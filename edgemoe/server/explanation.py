"""What is wrong with a body, in a sentence: which field, which value, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError

from edgemoe.server.errors import RequestError
from edgemoe.server.fields import shown

_WITHOUT_VALUE = ("missing", "refused", "wrong", "value_error", "too_short", "too_long")
"""Kinds of errors whose message needs no value, or has it."""


def explained(error: RequestValidationError) -> RequestError:
    """The first thing that is wrong, and where."""
    errors: Sequence[Any] = error.errors()
    if errors[0]["type"] == "json_invalid":
        return RequestError(f"the body is no JSON: {errors[0].get('ctx', {}).get('error', errors[0]['msg'])}")
    if isinstance(error.body, (bytes, str)):
        return RequestError("the body is not read as JSON: send it with 'Content-Type: application/json'")
    places = [_place(one, error.body) for one in errors]
    # Of types that a field may have, the one that fits the furthest is what was meant.
    meant = [i for i, place in enumerate(places) if place[: len(places[0])] == places[0]]
    i = max(meant, key=lambda i: len(places[i]))
    place = ".".join(map(str, places[i]))
    message = errors[i]["msg"].removeprefix("Value error, ")
    if errors[i]["type"] not in _WITHOUT_VALUE:
        message = f"{message}, not {shown(errors[i]['input'])}"
    return RequestError(f"{place}: {message}" if place else message, param=place or None)


def _place(error: Any, body: Any) -> tuple[int | str, ...]:
    """The fields that lead to what is wrong; names of types, which pydantic puts among them, are left out."""
    found: list[int | str] = []
    for part in error["loc"][1:]:
        inside = part in body if isinstance(body, dict) else isinstance(body, list) and isinstance(part, int)
        if inside:
            body = body[part]
        elif not (error["type"] == "missing" and part == error["loc"][-1]):
            continue
        found.append(part)
    if error["type"] == "wrong":
        found.append(error["ctx"]["field"])
    return tuple(found)
