"""A conversation that fits the model's context."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from edgemoe.chat.footer import footer, live, report
from edgemoe.conversation import Message, fit
from edgemoe.errors import EdgeMoEError
from edgemoe.thinking import opened_by_prompt

if TYPE_CHECKING:
    from edgemoe.llama import Llama


class Session(ABC):
    """What the interactive chat needs of a conversation.

    Attributes:
        messages: what is sent with the next message.
        finish_reason: of the last answer: "stop", "length", or None for one that was interrupted.
        private: whether something was said that must not leave this machine.
    """

    def __init__(self, system: str | None = None) -> None:
        self.messages: list[Message] = [{"role": "system", "content": system}] if system else []
        self.finish_reason: str | None = None
        self.private = False

    @abstractmethod
    def reply(self, text: str, **sampling: Any) -> Generator[str, None, None]:
        """The answer to `text`, piece by piece."""

    @abstractmethod
    def footer(self) -> str:
        """What the last answer cost, in one line."""

    @abstractmethod
    def status(self) -> list[str]:
        """How the answer is coming along, the most important first; from any thread."""

    @abstractmethod
    def report(self) -> list[tuple[str, str]]:
        """Speed, cache and memory as names and values for people."""

    @abstractmethod
    def describe(self) -> list[tuple[str, str]]:
        """Who answers, and how, as names and values for people."""

    @abstractmethod
    def set_memory(self, size: str) -> None:
        """Change the memory budget."""

    @abstractmethod
    def set_quality(self, quality: str) -> None:
        """Change the quality of the answers that follow."""

    @abstractmethod
    def thinking_tag(self) -> str | None:
        """The closing tag of the block of thoughts that answers begin inside of, if they do."""

    @property
    def transcript(self) -> list[Message]:
        """The whole conversation."""
        return list(self.messages)

    @property
    def system(self) -> str | None:
        """The system prompt."""
        return str(self.messages[0]["content"]) if self._turns_start else None

    def set_system(self, text: str | None) -> None:
        """Another system prompt, or none, from the next message on."""
        self.messages[: self._turns_start] = [{"role": "system", "content": text}] if text else []

    def clear(self) -> None:
        """Forget everything but the system prompt."""
        self.restore(self.messages[: self._turns_start])

    def restore(self, messages: Sequence[Message], *, private: bool = False) -> None:
        """Go on with this conversation in place of the present one."""
        self.messages = list(messages)
        self.private = private

    def take_back(self) -> list[Message]:
        """Removes the last message of the user's and what was answered to it; returns them.

        Raises:
            EdgeMoEError: when nothing was said.
        """
        messages = self.transcript
        last = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=None)
        if last is None:
            raise EdgeMoEError("nothing was said yet")
        self.restore(messages[:last], private=self.private)
        return messages[last:]

    @property
    def _turns_start(self) -> int:
        return 1 if self.messages and self.messages[0]["role"] == "system" else 0


class ChatSession(Session):
    """Messages exchanged with a model.

    When they outgrow the context, the oldest turns are left out for good, never the system prompt: what stays keeps
    its order, so that the next prompt starts with what the model has evaluated already.
    """

    def __init__(self, llm: Llama | Any, system: str | None = None, on_forget: Callable[[], None] | None = None):
        """`on_forget` is called once, before the first answer that the model gives without the oldest turns."""
        super().__init__(system)
        self.llm = llm
        self.turns_forgotten = 0
        self.prompt_tokens = 0  # of the last request
        self.completion_tokens = 0  # of its answer
        self._forgotten: list[Message] = []
        self._on_forget = on_forget
        self._tag: tuple[str | None] | None = None
        self._before: Any = None  # statistics when the last reply began

    def reply(self, text: str, **sampling: Any) -> Generator[str, None, None]:
        """The answer to `text`, piece by piece; `sampling` is what `create_chat_completion` takes.

        An answer that is interrupted stays in the history as far as it came; a message that got no answer does not.
        Close the iterator (`contextlib.closing`) when you stop early.

        Raises:
            EdgeMoEError: when `text` alone is too long for the context.
        """
        self.finish_reason, self.completion_tokens = None, 0
        self._before = self.llm.stats()
        asked: Message = {"role": "user", "content": text}
        answer: list[str] = []
        try:
            self.messages.append(asked)
            self.prompt_tokens = self._fit(sampling.get("max_tokens"))
            messages: Any = list(self.messages)
            stream: Any = self.llm.create_chat_completion(messages=messages, stream=True, **sampling)
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
            elif self.messages and self.messages[-1] is asked:
                self.messages.pop()
            # The last token of an answer cut by its length is never evaluated.
            unevaluated = 1 if self.finish_reason == "length" else 0
            computed = answer or self.finish_reason  # tokens may have no text
            self.completion_tokens = max(0, self.llm.n_tokens - self.prompt_tokens + unevaluated) if computed else 0

    @property
    def transcript(self) -> list[Message]:
        start = self._turns_start
        return [*self.messages[:start], *self._forgotten, *self.messages[start:]]

    def restore(self, messages: Sequence[Message], *, private: bool = False) -> None:
        super().restore(messages, private=private)
        self._forgotten = []
        self.prompt_tokens = self.completion_tokens = 0

    def footer(self) -> str:
        """What the last answer cost, in one line."""
        return footer(self.stats(), self.completion_tokens)

    def status(self) -> list[str]:
        return live(self.llm.stats() if self._before is None else self.stats())

    def stats(self) -> Any:
        """Statistics of the last answer."""
        now = self.llm.stats()
        return now.since(self._before or now)  # a reply may have been stopped at its very beginning

    def report(self) -> list[tuple[str, str]]:
        """All counters since the model was loaded, as names and values for people."""
        return report(self.llm.stats())

    def describe(self) -> list[tuple[str, str]]:
        held = f"{self.prompt_tokens + self.completion_tokens} of {self.llm.n_ctx()} tokens in use"
        forgotten = f", {self.turns_forgotten} turns left out" if self.turns_forgotten else ""
        return [("context", held + forgotten), ("quality", str(self.llm.quality))]

    def set_memory(self, size: str) -> None:
        """Change the memory budget, "none" for no limit."""
        self.llm.set_memory(None if size.lower() == "none" else size)

    def set_quality(self, quality: str) -> None:
        self.llm.set_quality(quality)

    def thinking_tag(self) -> str | None:
        if self._tag is None:
            self._tag = (opened_by_prompt(self.llm),)
        return self._tag[0]

    def _fit(self, max_tokens: int | None) -> int:
        """Leave out the oldest turns until the prompt leaves room for an answer; the length of the prompt."""
        kept, length = fit(self.llm, self.messages, max_tokens)
        if gone := len(self.messages) - len(kept):
            first, start = self.turns_forgotten == 0, self._turns_start
            self._forgotten += self.messages[start : start + gone]
            self.turns_forgotten += sum(message["role"] == "user" for message in self.messages[start : start + gone])
            self.messages = kept
            if first and self._on_forget:
                self._on_forget()
        return length
