"""What the bodies of all APIs have in common: no value of another type, and no field that is silently ignored.

A field is honoured, or marked `Accepted` (it has no effect here, and needs none), or `Refused`. Everything else is no
field, and refused as well.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_SHOWN = 60
"""Characters of a value in a message."""

Number = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
Stop = str | Annotated[list[str], Field(max_length=16)] | None
Nothing = Annotated[list[Any], Field(max_length=0)] | None
"""A list that may be there, as long as it is empty."""


def shown(value: Any) -> str:
    """A value of a request as a message shows it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def wrong(field: str, message: str) -> PydanticCustomError:
    """What a validator of a whole body raises about one of its fields."""
    return PydanticCustomError("wrong", "{message}", {"field": field, "message": message})


@dataclass(frozen=True)
class Accepted:
    """Marks a field that changes nothing here; `why` says so to people."""

    why: str


@dataclass(frozen=True)
class Refused:
    """Marks a field that only takes the values of its type, which ask for what is done anyway.

    Others are refused with `instead`: why, and what to do.
    """

    instead: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """As pydantic wants it."""
        return core_schema.no_info_wrap_validator_function(self._check, handler(source))

    def _check(self, value: Any, validated: Any) -> Any:
        try:
            taken = validated(value)
            if isinstance(taken, bool) == isinstance(value, bool):  # 0 is False to Python
                return taken
            raise ValueError
        except ValueError:
            told = {"value": shown(value), "instead": self.instead}
            raise PydanticCustomError("refused", "{value} cannot be used: {instead}", told) from None


class Strict(BaseModel):
    """A body whose values have to be of the right type: "1" is no number, half a character is no text."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _known(cls, body: Any, validated: Any) -> Any:
        if (half := _half(body)) is not None:
            raise ValueError(f"\\u{ord(half):04x} is half of a surrogate pair, and no character: send both halves")
        try:
            return validated(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            if first["type"] != "extra_forbidden" or len(first["loc"]) != 1:
                raise
            [name] = first["loc"]
        names = [field.alias or known for known, field in cls.model_fields.items()]
        near = difflib.get_close_matches(str(name), names, 1)
        hint = f"did you mean {near[0]!r}?" if near else "leave it out"
        raise wrong(str(name), f"{shown(body[name])} was given, and there is no such field: {hint}")


def _half(value: Any) -> str | None:
    """Half of a surrogate pair that stands alone in a JSON value, which UTF-8 has no bytes for."""
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, str):
            try:
                part.encode()
            except UnicodeEncodeError as error:
                return part[error.start]
        elif isinstance(part, dict):
            left += [*part, *part.values()]
        elif isinstance(part, list):
            left += part
    return None


MOST_MESSAGES = 4096


class Function(Strict):
    """A function that may be called; `parameters` is a JSON schema. Arguments of a `strict` one have it for certain."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


TopP = Annotated[Number, Field(ge=0, le=1)] | None
TopK = Annotated[int, Field(ge=0, lt=1 << 31)] | None


class Drawing(Strict):
    """How tokens are drawn, in APIs that have more than `top_p` and `top_k`; `quality` is an addition."""

    top_p: TopP = None
    top_k: TopK = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[Number, Field(gt=0, le=100)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: Stop = None
    quality: str | Number | None = None


_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repeat_last_n",
    "repeat_penalty",
    "frequency_penalty",
    "presence_penalty",
)


def sampling_of(body: BaseModel) -> dict[str, Any]:
    """What `body` says of sampling, as `requests.Sampling` has it."""
    found = {name: value for name in _SAMPLING if (value := getattr(body, name, None)) is not None}
    if (seed := getattr(body, "seed", None)) is not None:
        found["seed"] = seed % (1 << 32)
    return found


def stops_of(stop: Stop) -> tuple[str, ...]:
    """The strings that end an answer."""
    return (stop,) if isinstance(stop, str) else tuple(stop or ())
