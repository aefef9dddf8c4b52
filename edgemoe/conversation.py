"""The tokens that a conversation becomes, from the model's own chat handler, and what of it fits the context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgemoe.errors import EdgeMoEError, ModelError

Message = dict[str, Any]

# An answer needs at least this much of the context, or the message is refused as too long.
_SHORTEST_ANSWER = 16


@dataclass(frozen=True)
class Rendered:
    """A prompt, and what ends the answer to it beside the tokens that end any."""

    tokens: list[int]
    stop: list[str]
    stopping_criteria: Callable[..., bool] | None


def render(llm: Any, messages: Sequence[Message], **asked: Any) -> Rendered:
    """What `llm.create_chat_completion(messages, **asked)` would ask for, without evaluating it.

    Raises:
        ModelError: when the model's chat template refuses the messages.
    """
    import llama_cpp
    from jinja2 import TemplateError

    recorder: Any = _Recorder(llm)
    every: Any = list(messages)
    try:
        llama_cpp.Llama.create_chat_completion(recorder, messages=every, **asked)
    except _Recorded as recorded:
        return recorded.rendered
    except (TemplateError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelError(f"the model's chat template refuses this conversation: {error}") from error
    raise AssertionError("a chat handler asks for a completion")


def prompt_tokens(llm: Any, messages: Sequence[Message]) -> list[int]:
    """The prompt of `render`."""
    return render(llm, messages).tokens


def use_own_template(llm: Any) -> None:
    """Make `llm` use the chat template of its file, where llama-cpp-python prefers a similar one of its own.

    Its ChatML, for one, puts an empty system message before conversations that have none.
    """
    if "tokenizer.chat_template" in llm.metadata:
        llm.chat_format = "chat_template.default"


def fit(llm: Any, messages: Sequence[Message], max_tokens: int | None, begun: int = 0) -> tuple[list[Message], int]:
    """The messages without as many of the oldest turns as it takes for an answer to have room; their prompt's length.

    System messages at the start stay. `begun` tokens of the answer are there already.

    Raises:
        EdgeMoEError: when the last message alone is too long for the context.
    """
    n_ctx = llm.n_ctx()
    reserve = n_ctx // 4 if not max_tokens or max_tokens < 0 else min(max_tokens, n_ctx // 2)
    kept = list(messages)
    start = next((i for i, message in enumerate(kept) if message["role"] != "system"), len(kept))
    length = len(prompt_tokens(llm, kept)) + begun
    if length + reserve > n_ctx:
        _check_length(llm, kept[:start] + kept[-1:], begun, n_ctx, min(reserve, _SHORTEST_ANSWER))
    while length + reserve > n_ctx and (turn := _oldest_turn(kept, start)):
        del kept[start : start + turn]
        length = len(prompt_tokens(llm, kept)) + begun
    return kept, length - begun


def _oldest_turn(messages: Sequence[Message], start: int) -> int:
    """How many messages it has: up to the next one of the user's; 0 when it is the last turn."""
    for i in range(start + 1, len(messages)):
        if messages[i]["role"] == "user":
            return i - start
    return 0


def _check_length(llm: Any, shortest: Sequence[Message], begun: int, n_ctx: int, answer: int) -> None:
    length = len(prompt_tokens(llm, shortest)) + begun
    if length + answer > n_ctx:
        raise EdgeMoEError(
            f"the message is too long: its prompt has {length} tokens, and the context holds {n_ctx} together with "
            "the answer; shorten it or choose a larger context (--ctx, in Python n_ctx)"
        )


class _Recorded(BaseException):
    """Leaves a chat handler where it has its prompt. Not an Exception, so that no handler keeps it."""

    def __init__(self, rendered: Rendered):
        self.rendered = rendered


class _Recorder:
    """Stands for a model in a chat handler: tokenizes as the model does and completes nothing."""

    def __init__(self, llm: Any):
        self._llm = llm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    def create_completion(self, prompt: str | list[int], **asked: Any) -> None:
        tokens = self._llm.tokenize(prompt.encode(), add_bos=True, special=True) if isinstance(prompt, str) else prompt
        stop = asked.get("stop") or []
        raise _Recorded(
            Rendered(tokens, [stop] if isinstance(stop, str) else list(stop), asked.get("stopping_criteria"))
        )
