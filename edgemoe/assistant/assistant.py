"""The class that ties everything together."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from edgemoe.assistant.account import Account
from edgemoe.assistant.answer import Answer, Asked, AsyncAnswer
from edgemoe.assistant.answering import Answering, Ask, Shared
from edgemoe.assistant.discretion import PrivateConversations
from edgemoe.assistant.models import Models
from edgemoe.config import Config, load_config
from edgemoe.config.settings import CLOUD, LOCAL, REFUSE
from edgemoe.conversation import Message
from edgemoe.errors import EdgeMoEError
from edgemoe.routing.decider import Decider
from edgemoe.routing.messages import messages_of
from edgemoe.routing.policy import Decision
from edgemoe.routing.router import Router


class Assistant:
    """Answers prompts: a local model, the cloud, or with a refusal, as the configuration says. Threads may share it.

    Args:
        config: a `Config`, a file, or None for the user's file.
        router: in place of the one that the configuration names.
        ask: asked before a local answer that looks unsure is given to the cloud (`escalate = "ask"`): it gets the
            decision and the confidence. Without it nothing is escalated then.
        on_note: told at once what is told in `Answer.notes`.
        on_load: told the name of a model before it is loaded.
        models: to use in place of the configuration's own.

    Raises:
        ConfigError: for a configuration that is wrong.
        ModelError: for a router that is missing or damaged.
    """

    def __init__(
        self,
        config: Config | str | os.PathLike[str] | None = None,
        *,
        router: Router | None = None,
        ask: Ask | None = None,
        on_note: Callable[[str], None] = lambda message: None,
        on_load: Callable[[str], None] = lambda name: None,
        models: Models | None = None,
    ) -> None:
        self.config = config if isinstance(config, Config) else load_config(config)
        self.decider = Decider(self.config, router)
        self.models = models or Models(self.config.local, self.config.memory, on_load)
        self.account = Account(self.decider.ledger, self.config.budget)
        self._shared = Shared(self.decider, self.models, self.account, ask)
        self._private = PrivateConversations()
        self._on_note = on_note
        self._told = False

    def reply(
        self, prompt: str | Sequence[Message], *, private: bool = False, local_only: bool = False, **sampling: Any
    ) -> Answer:
        """The answer to a prompt or to a conversation (a list of messages), as an iterator of its pieces.

        Nothing of a conversation leaves this machine when it holds personal data, when it is `private` or `local_only`,
        or when it goes on from one that was. `sampling` overrides the settings of the model that answers.
        """
        messages = [dict(message) for message in messages_of(prompt)]
        facts = self.decider.facts(
            messages,
            confidential=self._confidential(messages, private),
            local_only=local_only,
            max_tokens=sampling.get("max_tokens"),
            beside=sampling,
        )
        cancelled = threading.Event()
        answer = Answer(self.decider.decide_to_answer(messages, facts), cancelled, self._on_note)
        answer.asked = Asked(messages, facts)
        self._tell_problem(answer)
        work = Answering(self._shared, answer, facts, messages, sampling, cancelled)
        return answer.start(self._remembering(answer, messages, work.run()))

    def areply(self, prompt: str | Sequence[Message], **options: Any) -> AsyncAnswer:
        """As `reply`, for asyncio."""
        return AsyncAnswer(self.reply(prompt, **options))

    def decide(self, prompt: str | Sequence[Message], **known: Any) -> Decision:
        """Who would answer."""
        return self.decider.decide(prompt, **known)

    def decide_here(
        self, prompt: str | Sequence[Message], *, private: bool = False
    ) -> tuple[Decision, Callable[[str], None]]:
        """Who of the local models would answer, and what has to be told the answer when somebody else has asked it.

        That keeps in mind that the conversation is private, where it is, as `reply` does.
        """
        messages = [dict(message) for message in messages_of(prompt)]
        facts = self.decider.facts(messages, confidential=self._confidential(messages, private), local_only=True)
        secret = self.config.private or facts.confidential or bool(facts.personal)

        def answered(said: str) -> None:
            if secret:
                self._private.add(messages, said)

        return self.decider.decide_to_answer(messages, facts), answered

    def feedback(self, answer: Answer, good: bool) -> str:
        """Teaches the router whether an answer was good; says what it learned.

        Raises:
            EdgeMoEError: for an answer that was judged before, that nobody gave, or when `feedback` is off.
            ReadError: when what was learned before cannot be read.
            WriteError: when it cannot be saved.
        """
        if answer.asked is None or answer.decision.route == REFUSE or not answer.answered_by:
            raise EdgeMoEError("there is no answer to judge")
        if answer.rated:
            raise EdgeMoEError("this answer was judged already")
        route = CLOUD if answer.answered_by[-1] in self.config.cloud else LOCAL
        lesson = self.decider.rate(answer.asked.messages, answer.asked.facts, route, good=good)
        answer.rated = True
        moved = f"{lesson.before:.0%} to {lesson.now:.0%}"
        return f"{lesson.ratings} rated; the probability that this needs a strong model goes from {moved}"

    def close(self) -> None:
        """Unloads the models, saves what feedback needs, and closes connections: each of them, also where one fails.

        Raises:
            WriteError, ReadError: when what feedback needs cannot be saved.
        """
        with ExitStack() as last:
            for cloud in self.decider.clouds.values():
                last.callback(cloud.close)
            last.callback(self.decider.learner.save)
            last.callback(self.models.close)

    def __enter__(self) -> Assistant:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _confidential(self, messages: Sequence[Message], private: bool) -> bool:
        return private or self._private.continues(messages)

    def _tell_problem(self, answer: Answer) -> None:
        """Once: what was learned cannot be used."""
        problem = self.decider.learner.problem
        if problem and not self._told:
            self._told = True
            answer.note(f"{problem} (edgemoe route feedback reset)")

    def _remembering(
        self, answer: Answer, messages: Sequence[Message], work: Generator[str, None, None]
    ) -> Generator[str, None, None]:
        """Keeps in mind that a conversation is private, as far as it came."""
        said = ""
        try:
            for piece in work:
                said += piece
                yield piece
        finally:
            work.close()
            if answer.decision.private:
                self._private.add(messages, said)
