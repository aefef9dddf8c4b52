"""One request from its decision to its last token: local models, the cloud, and what happens when one of them fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from edgemoe.assistant.account import Account
from edgemoe.assistant.answer import Answer
from edgemoe.assistant.confidence import Probe, self_verification
from edgemoe.assistant.models import Models
from edgemoe.assistant.prices import Generated, reserve
from edgemoe.cloud import Usage
from edgemoe.config import CloudModel, LocalModel, Target
from edgemoe.conversation import Message, fit, render
from edgemoe.errors import Cancelled, CloudError
from edgemoe.routing.decider import Decider
from edgemoe.routing.messages import last_prompt
from edgemoe.routing.policy import Decision, Facts, escalation, local_model

if TYPE_CHECKING:
    from edgemoe.llama import Llama

Ask = Callable[[Decision, float], bool]
"""Is shown the cloud's decision and the local answer's confidence, and says whether to ask the cloud."""
Text = Generator[str, None, None]

_LOCAL_ONLY = ("top_k", "min_p", "repeat_penalty", "quality")


@dataclass
class Shared:
    """What all requests of an assistant use."""

    decider: Decider
    models: Models
    account: Account
    ask: Ask | None


@dataclass(frozen=True)
class Held:
    """A local answer that was not shown, and why it ended if it did."""

    text: str = ""
    finish_reason: str | None = None


class Answering:
    """Writes into `answer` what it does."""

    def __init__(
        self,
        shared: Shared,
        answer: Answer,
        facts: Facts,
        messages: Sequence[Message],
        sampling: Mapping[str, Any],
        cancelled: threading.Event,
    ) -> None:
        self._shared, self._answer, self._facts = shared, answer, facts
        self._messages, self._sampling, self._cancelled = list(messages), dict(sampling), cancelled
        self._config = shared.decider.config

    def run(self) -> Text:
        """The pieces of the answer."""
        decision = self._answer.decision
        if decision.target is None:
            self._answer.finish_reason = "refused"
            yield decision.refusal or self._config.refusal
        elif decision.target in self._config.local:
            yield from self._local(self._config.local[decision.target], may_escalate=True)
        else:
            stand_in = local_model(self._config, self._facts)
            yield from self._cloud(self._config.cloud[decision.target], stand_in, Held())

    # Local

    def _local(self, model: LocalModel, begun: str = "", *, may_escalate: bool = False) -> Text:
        instead = self._escalation() if may_escalate else None
        with self._shared.models.use(model.name, self._cancelled) as llm:
            self._check_cancelled()
            self._answer.answered_by.append(model.name)
            if instead is None:
                yield from self._complete(llm, model, begun, None)
                return
            held = yield from self._probed(llm, model, instead)
        if held is not None:
            assert instead.target is not None
            self._answer.note(f"{model.name} is unsure ({self._answer.confidence:.0%}), {instead.target} answers")
            self._answer.answered_by.clear()
            yield from self._cloud(self._config.cloud[instead.target], model, held)

    def _escalation(self) -> Decision | None:
        """Who is asked if the local answer looks unsure; None where nobody can be, or may be."""
        wanted, decision = self._config.escalate, self._answer.decision
        if wanted == "never" or (wanted == "ask" and self._shared.ask is None):
            return None
        if decision.private or not decision.escalates:
            return None
        return escalation(self._config, self._facts)

    def _probed(self, llm: Llama, model: LocalModel, instead: Decision) -> Generator[str, None, Held | None]:
        """Holds the answer back until it is known how sure it is; returns it when the cloud is to answer instead."""
        probe, held = Probe(), ""
        with closing(self._complete(llm, model, "", probe)) as pieces:
            for piece in pieces:
                held += piece
                if probe.done and not self._config.verify:
                    break
            self._answer.confidence = self._confidence(llm, model, probe, held)
            if self._unsure(instead):
                return Held(held, self._answer.finish_reason)
            yield held
            yield from pieces
        return None

    def _confidence(self, llm: Llama, model: LocalModel, probe: Probe, held: str) -> float:
        if self._config.verify and held:
            self._answer.stops_with(llm.cancel)
            try:
                return self_verification(llm, last_prompt(self._messages), held)
            finally:
                self._answer.stops_with(None)
                self._check_cancelled()
        return probe.confidence(model.confidence)

    def _unsure(self, instead: Decision) -> bool:
        confidence = self._answer.confidence
        if confidence is None or confidence >= self._config.confidence:
            return False
        if self._config.escalate == "auto":
            return True
        return self._shared.ask is not None and self._shared.ask(instead, confidence)

    def _complete(self, llm: Llama, model: LocalModel, begun: str, probe: Probe | None) -> Text:
        """What `llm` adds to an answer that has `begun`."""
        from llama_cpp import StoppingCriteriaList

        options = {"temperature": 0.7} | dict(model.sampling) | self._sampling
        tokens = llm.tokenize(begun.encode("utf-8", "replace"), add_bos=False) if begun else []
        most = options.pop("max_tokens", None)
        if most is not None and most <= len(tokens):
            self._answer.finish_reason = "length"
            return
        most = most - len(tokens) if most is not None else None
        asked = [_joined(message) for message in _with_system(self._messages, model)]
        messages, length = fit(llm, asked, most, len(tokens))
        if len(messages) < len(asked):
            self._answer.note(f"the context of {model.name} is full: the oldest turns were left out")
        rendered = render(llm, messages)
        stop = options.pop("stop", None) or []
        criteria = [c for c in (rendered.stopping_criteria, probe) if c is not None]
        stream = llm.create_completion(
            rendered.tokens + tokens,
            stream=True,
            max_tokens=most,
            stop=[stop, *rendered.stop] if isinstance(stop, str) else [*stop, *rendered.stop],
            stopping_criteria=StoppingCriteriaList(criteria) if criteria else None,
            **options,
        )
        self._answer.finish_reason = None
        self._answer.stops_with(llm.cancel)
        try:
            self._check_cancelled()
            with closing(stream):
                for chunk in stream:
                    self._check_cancelled()
                    choice = chunk["choices"][0]
                    self._answer.finish_reason = choice["finish_reason"]
                    if choice["text"]:
                        yield choice["text"]
        finally:
            self._answer.stops_with(None)
            unevaluated = 1 if self._answer.finish_reason == "length" else 0
            self._answer.usage = Usage(length, max(0, llm.n_tokens - length + unevaluated))

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled("the answer was cancelled")

    # Cloud

    def _cloud(self, model: CloudModel, stand_in: LocalModel, held: Held) -> Text:
        """The answer of `model`; where it fails, `stand_in` goes on, from what it `held` back or from what came."""
        if self._answer.decision.private:
            raise AssertionError("a private conversation must not leave the machine")
        came: list[str] = []
        try:
            for piece in self._stream(model):
                came.append(piece)
                yield piece
        except CloudError as error:
            on = "goes on" if came else "answers"
            self._answer.note(f"{model.name} failed ({error}): {stand_in.name} {on} on this machine")
            yield from self._without_cloud(stand_in, "".join(came), held)

    def _without_cloud(self, stand_in: LocalModel, came: str, held: Held) -> Text:
        """The rest of an answer of which `came` has been shown, or else that which was `held` back."""
        if held.text and not came:
            yield held.text
            if held.finish_reason is not None:
                self._answer.finish_reason = held.finish_reason
                self._answer.answered_by.append(stand_in.name)
                return
        yield from self._local(stand_in, came or held.text)

    def _stream(self, model: CloudModel) -> Text:
        """The text of `model`, and its cost in the account, also when it is left early."""
        messages = _with_system(self._messages, model)
        cloud = self._shared.decider.clouds[model.name]
        options = {k: v for k, v in self._sampling.items() if k not in _LOCAL_ONLY}
        options = dict(model.sampling) | options
        text, generated = False, Generated(messages)
        usage: Usage | None = None
        sent = threading.Event()
        with self._shared.account.spending(model.name, partial(reserve, model, messages, options)) as spending:
            pieces = cloud.stream(messages, cancel=self._cancelled, sent=sent, **options)
            try:
                with closing(pieces):
                    for piece in pieces:
                        usage = piece.usage or usage
                        generated.add(piece)
                        spending.note(generated.cost(model))
                        self._answer.finish_reason = piece.finish_reason
                        if piece.text:
                            if not text:
                                self._answer.answered_by.append(model.name)
                            text = True
                            yield piece.text
                        if usage is None and generated.exceeds(model, spending.allowed):
                            self._answer.finish_reason = "length"
                            self._answer.note(f"{model.name} went on beyond the budget and was cut off")
                            break
            finally:
                if usage is None and (generated.tokens or sent.is_set()):  # the prompt and what came are paid for
                    usage = generated.usage()
                if usage is not None:
                    spending.cost = model.cost(usage.prompt_tokens, usage.completion_tokens)
                    self._answer.usage = usage
                    self._answer.cost += spending.cost
        if spending.problem:
            self._answer.note(spending.problem)


def _with_system(messages: Sequence[Message], model: Target) -> list[Message]:
    """With the model's own system prompt, unless the conversation has one."""
    if model.system is None or any(m.get("role") == "system" for m in messages):
        return list(messages)
    return [{"role": "system", "content": model.system}, *messages]


def _joined(message: Message) -> Message:
    """With the text parts of a content as one text, which is what chat templates of files understand."""
    content = message.get("content")
    if not isinstance(content, list) or not all(isinstance(p, dict) and p.get("type") == "text" for p in content):
        return message
    return {**message, "content": "".join(str(part.get("text", "")) for part in content)}
