"""What every API's requests become: what is asked for, and the pieces of the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgemoe.conversation import Message

DEFAULTS: Mapping[str, Any] = {"temperature": 0.7, "top_p": 0.95, "top_k": 40, "min_p": 0.05}
"""Of sampling, where neither the request nor the model's configuration says anything."""


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn. `top_k` 0 is no limit, `temperature` 0 the likeliest token; no `seed` draws one.

    Penalties look at the newest `repeat_last_n` tokens; -1: at all.
    """

    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 40
    min_p: float = 0.05
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Thinking:
    """Whether the model is to think before it answers, or how hard ("low", "high"); `field` is what said so."""

    wanted: bool | str
    field: str


@dataclass(frozen=True)
class Request:
    """One answer that is asked for: to `messages` by the model's chat template, or the continuation of `prompt`.

    `sampling` has the fields of `Sampling` that were given. `schema` is a JSON schema that the answer is to have ({}:
    any JSON object). `tools` are functions as OpenAI's API has them; `tool` names the one that is to be called, "any"
    means one of them, "auto" that the model decides, "none" that there are none; not `parallel`: it may call one at
    the most. `logprobs` is the number of
    alternatives that are wanted of each token; None: not even its own. `max_tokens` None: as many as fit.
    `ctx`: prompt and answer may have so many tokens, where the model's context holds more.
    """

    model: str | None = None
    messages: tuple[Message, ...] = ()
    prompt: str | tuple[int, ...] | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    ctx: int | None = None
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool: str = "auto"
    parallel: bool = True
    thinking: Thinking | None = None
    logprobs: int | None = None
    quality: str | float | None = None
    private: bool = False


@dataclass(frozen=True)
class TokenLogprob:
    """A token of the answer, the natural logarithm of its probability, and the likeliest (token, logarithm)."""

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True)
class ToolCall:
    """A function that the model calls; `arguments` is JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Piece:
    """A part of an answer: of its text, or of what the model `thought` before. The last one has the `finish_reason`:
    "stop", "length" or "tool_calls", and which of the request's stop strings ended it, if one did."""

    text: str = ""
    thought: str = ""
    tool_call: ToolCall | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None
    stop: str | None = None


Deliver = Callable[["Piece | BaseException"], None]
"""Takes the pieces of an answer, from whichever thread; an exception ends it."""
