"""A conversation in which each message may be answered by another model."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from edgemoe.chat.footer import footer, live, report
from edgemoe.chat.session import Session
from edgemoe.errors import EdgeMoEError, ReadError
from edgemoe.experts.quality import LEVELS, parse_quality
from edgemoe.thinking import opened_by_prompt

if TYPE_CHECKING:
    from edgemoe.assistant import Answer, Assistant
    from edgemoe.experts.stats import Stats


class RoutedSession(Session):
    """Messages exchanged with an `Assistant`. Once something private was said, all that follows stays here, too."""

    def __init__(self, assistant: Assistant, system: str | None = None, *, local_only: bool = False) -> None:
        super().__init__(system)
        self.assistant = assistant
        self.last: Answer | None = None
        self._local_only = local_only
        self._quality: str | None = None
        self._before: dict[str, Stats] = {}
        self._tags: dict[str, str | None] = {}

    def reply(self, text: str, **sampling: Any) -> Generator[str, None, None]:
        """The answer to `text`, piece by piece; `sampling` overrides the settings of the model that answers.

        An answer that is interrupted stays in the history as far as it came. A message that got no answer does not, nor
        one that was refused. Close the iterator when you stop early.

        Raises:
            EdgeMoEError: what the local model raises; a cloud that fails does not.
        """
        self.finish_reason = None
        self._before = {name: llm.stats() for name, llm in self.assistant.models.loaded.items()}
        asked = [*self.messages, {"role": "user", "content": text}]
        if self._quality is not None:
            sampling = {"quality": self._quality} | sampling
        self.last = self.assistant.reply(asked, private=self.private, local_only=self._local_only, **sampling)
        self.private = self.private or self.last.decision.private
        try:
            with closing(self.last):
                yield from self.last
        finally:
            self.finish_reason = self.last.finish_reason
            if self.last.text and self.last.decision.route != "refuse":
                self.messages = [*asked, {"role": "assistant", "content": self.last.text}]

    def footer(self) -> str:
        """Who answered, by which rule, and what it cost."""
        answer = self.last
        if answer is None or answer.decision.route == "refuse":
            return f"refused: {answer.decision.reason}" if answer else ""
        names = " and ".join(dict.fromkeys(answer.answered_by)) or "nobody"
        parts = [f"{names} ({answer.decision.rule})"]
        if answer.confidence is not None:
            parts.append(f"confidence {answer.confidence:.0%}")
        model = answer.answered_by[-1] if answer.answered_by else None
        if model in self.assistant.models.loaded:
            parts.append(footer(self._stats_of(model), answer.usage.completion_tokens if answer.usage else 0))
        elif answer.usage:
            parts.append(f"{answer.usage.completion_tokens} tokens")
        if answer.cost:
            parts.append(self._money(answer.cost))
        return " · ".join(parts)

    def status(self) -> list[str]:
        """Who answers, then how that comes along where it is a local model."""
        if self.last is None or not self.last.answered_by:
            return [str(self.assistant.models.memory) + " of memory"] if self.last is None else []
        name = self.last.answered_by[-1]
        return [name, *(live(self._stats_of(name)) if name in self.assistant.models.loaded else [])]

    def describe(self) -> list[tuple[str, str]]:
        """The route, and what holds for every answer."""
        config = self.assistant.config
        rows = [("who may answer", ", ".join([*config.local, *config.cloud]))]
        rows += [("stays here", "yes")] if self._local_only or self.private else []
        return [*rows, ("quality", self._quality or "as configured")]

    def report(self) -> list[tuple[str, str]]:
        """The models, which of them are loaded, what they did, and what was spent."""
        rows = [*self.assistant.models.describe(), ("local memory", str(self.assistant.models.memory))]
        for name, llm in self.assistant.models.loaded.items():
            rows += [
                (key if len(self.assistant.models.loaded) == 1 else f"{name} {key}", v)
                for key, v in report(llm.stats())
            ]
        if self.assistant.config.cloud:
            rows.append((f"spent {self.assistant.account.period}", self._spent()))
        return rows

    def set_memory(self, size: str) -> None:
        """Change the budget of all local models together."""
        if size.lower() == "none":
            raise EdgeMoEError("models that share memory need a budget: a size, or auto")
        self.assistant.models.set_memory(size)

    def set_quality(self, quality: str) -> None:
        """Of all local models; one that has no such quality says so when it is to answer.

        Raises:
            EdgeMoEError: when it is none, or a loaded model has no such quality.
        """
        parse_quality(quality, LEVELS)
        for llm in self.assistant.models.loaded.values():
            llm.check_quality(quality)
        self._quality = quality

    def thinking_tag(self) -> str | None:
        """Of the local model that answers; of what the cloud sends, thoughts are told by their tags alone."""
        name = self.last.answered_by[-1] if self.last and self.last.answered_by else None
        if name not in self.assistant.models.loaded:
            return None
        if name not in self._tags:
            self._tags[name] = opened_by_prompt(self.assistant.models.loaded[name])
        return self._tags[name]

    def explanation(self) -> list[tuple[str, str]]:
        """The last decision as names and values for people.

        Raises:
            EdgeMoEError: when nothing was decided yet.
        """
        decision = self._answered().decision
        rows = [("route", f"{decision.route}{f', {decision.target}' if decision.target else ''}")]
        rows += [("rule", decision.rule), ("reason", decision.reason)]
        for head, scores in decision.scores.items():
            likely = max(scores, key=lambda name: scores[name])
            rows.append((head, f"{scores['yes']:.0%}" if "yes" in scores else f"{likely} {scores[likely]:.0%}"))
        rows += [("note", note) for note in self._answered().notes]
        return rows

    def feedback(self, *, good: bool) -> str:
        """Teaches the router by the last answer; says what it did.

        Raises:
            EdgeMoEError: when there is no answer to judge, or feedback is switched off.
        """
        return self.assistant.feedback(self._answered(), good)

    def _answered(self) -> Answer:
        if self.last is None:
            raise EdgeMoEError("nothing was answered yet")
        return self.last

    def _stats_of(self, model: str) -> Stats:
        stats: Stats = self.assistant.models.loaded[model].stats()
        return stats.since(self._before[model]) if model in self._before else stats

    def _money(self, cost: float) -> str:
        return f"{cost:.4f}, {self._spent()} {self.assistant.account.period}"

    def _spent(self) -> str:
        budget = self.assistant.config.budget
        try:
            spent = f"{self.assistant.account.spent():.4f}"
        except ReadError:  # the answer's notes say it
            spent = "unknown"
        return f"{spent} of {budget.amount:g}" if budget else spent
