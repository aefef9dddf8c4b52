"""A conversation that fits the model's context."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Protocol

from edgemoe.chat.footer import footer, report
from edgemoe.conversation import Message, fit


class Session(Protocol):
    """What the interactive chat needs of a conversation."""

    finish_reason: str | None

    def reply(self, text: str, **sampling: Any) -> Iterator[str]:
        """The answer to `text`, piece by piece."""

    def clear(self) -> None:
        """Forget everything but the system prompt."""

    def footer(self) -> str:
        """What the last answer cost, in one line."""

    def report(self) -> list[tuple[str, str]]:
        """Speed, cache and memory as names and values for people."""

    def set_memory(self, size: str) -> None:
        """Change the memory budget."""


class ChatSession:
    """Messages exchanged with a model.

    When they outgrow the context, the oldest turns are forgotten for good, never the system prompt: what stays keeps
    its order, so that the next prompt starts with what the model has evaluated already.
    """

    def __init__(self, llm: Any, system: str | None = None, on_forget: Callable[[], None] | None = None):
        """`on_forget` is called once, before the first answer that the model gives without the oldest turns."""
        self.llm = llm
        self.messages: list[Message] = [{"role": "system", "content": system}] if system else []
        self.turns_forgotten = 0
        self.prompt_tokens = 0  # of the last request
        self.completion_tokens = 0  # of its answer
        self.finish_reason: str | None = None  # "stop", "length", or None for an answer that was interrupted
        self._on_forget = on_forget
        self._before: Any = None  # statistics when the last reply began

    def reply(self, text: str, **sampling: Any) -> Iterator[str]:
        """The answer to `text`, piece by piece; `sampling` is what `create_chat_completion` takes.

        An answer that is interrupted stays in the history as far as it came; a message that got no answer does not.
        Close the iterator (`contextlib.closing`) when you stop early.

        Raises:
            EdgeMoEError: when `text` alone is too long for the context.
        """
        self.finish_reason = None
        self._before = self.llm.stats()
        self.messages.append({"role": "user", "content": text})
        answer: list[str] = []
        try:
            self.prompt_tokens = self._fit(sampling.get("max_tokens"))
            stream = self.llm.create_chat_completion(messages=list(self.messages), stream=True, **sampling)
            with closing(stream):
                for chunk in stream:
                    choice = chunk["choices"][0]
                    self.finish_reason = choice["finish_reason"]
                    if piece := choice["delta"].get("content"):
                        answer.append(piece)
                        yield piece
        finally:
            if answer:
                self.messages.append({"role": "assistant", "content": "".join(answer)})
            else:
                self.messages.pop()
            # The last token of an answer cut by its length is never evaluated.
            unevaluated = 1 if self.finish_reason == "length" else 0
            self.completion_tokens = max(0, self.llm.n_tokens - self.prompt_tokens + unevaluated) if answer else 0

    def clear(self) -> None:
        """Forget everything but the system prompt."""
        del self.messages[self._turns_start :]

    def footer(self) -> str:
        """What the last answer cost, in one line."""
        return footer(self.stats(), self.completion_tokens)

    def stats(self) -> Any:
        """Statistics of the last answer."""
        return self.llm.stats().since(self._before)

    def report(self) -> list[tuple[str, str]]:
        """All counters since the model was loaded, as names and values for people."""
        return report(self.llm.stats())

    def set_memory(self, size: str) -> None:
        """Change the memory budget, "none" for no limit."""
        self.llm.set_memory(None if size.lower() == "none" else size)

    @property
    def _turns_start(self) -> int:
        return 1 if self.messages and self.messages[0]["role"] == "system" else 0

    def _fit(self, max_tokens: int | None) -> int:
        """Forget the oldest turns until the prompt leaves room for an answer; the length of the prompt."""
        kept, length = fit(self.llm, self.messages, max_tokens)
        if len(kept) < len(self.messages):
            first = self.turns_forgotten == 0
            self.turns_forgotten += _turns(self.messages) - _turns(kept)
            self.messages = kept
            if first and self._on_forget:
                self._on_forget()
        return length


def _turns(messages: list[Message]) -> int:
    return sum(message["role"] == "user" for message in messages)
