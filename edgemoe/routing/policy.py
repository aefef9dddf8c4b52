"""Who answers a prompt: a pure function of the configuration and of what is known of the prompt.

In this order: what is private stays here; what is unsafe is refused; the user's rules; then the best local model for
the prompt's domain, or the cloud where a strong model is probably needed and can be had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgemoe.config import CloudModel, Config, LocalModel, Rule, Target
from edgemoe.config.settings import CLOUD, LOCAL, REFUSE
from edgemoe.routing.heads import YES
from edgemoe.routing.privacy import describe
from edgemoe.routing.router import DOMAIN, STRONG, UNSAFE

_USUAL_ABILITY = 0.5
"""Of the small models whose answers the head for strong models was trained on."""


@dataclass(frozen=True)
class Facts:
    """What is known of a prompt before anybody answers it.

    `personal` has the kinds of personal data in the conversation, `confidential` says that somebody called it private.
    `unavailable` has the endpoints that cannot be asked, and why; `budget_left` is None without a limit. `strong`
    replaces the classifier's probability where feedback has taught another one, and `preferred` is the route that
    feedback chooses under a budget, whatever the threshold.
    """

    choices: Mapping[str, str | None] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    personal: tuple[str, ...] = ()
    confidential: bool = False
    local_only: bool = False
    prompt_tokens: int = 0
    answer_tokens: int = 0
    unavailable: Mapping[str, str] = field(default_factory=dict)
    budget_left: float | None = None
    strong: float | None = None
    preferred: str | None = None

    @property
    def strong_probability(self) -> float | None:
        """That a small model's answer would be worse than a big one's."""
        return self.strong if self.strong is not None else self.scores.get(STRONG, {}).get(YES)


@dataclass(frozen=True)
class Feature:
    """A word of the prompt, and by how much it moves the log-odds of a label."""

    word: str
    head: str
    label: str
    weight: float


@dataclass(frozen=True)
class Decision:
    """Who answers, and why.

    `route` is "local", "cloud" or "refuse"; `target` the model's name, None for a refusal, whose text is `refusal`.
    `rule` names the step that decided, `reason` says it in a sentence. `cost` is the money that the answer will
    probably take. Nothing of a `private` conversation may leave the machine, whatever happens to the answer.
    Only where it `escalates` may the cloud replace an answer that looks unsure: not where a rule wants a local model.
    `values` has what each model was worth that was weighed; `features` is filled by `explain`.
    """

    route: str
    target: str | None
    reason: str
    rule: str
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    cost: float = 0.0
    private: bool = False
    escalates: bool = False
    refusal: str | None = None
    strong: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    features: tuple[Feature, ...] = ()


@dataclass(frozen=True)
class _Barrier:
    """Why no cloud can be asked. A private one holds for the whole conversation."""

    rule: str
    reason: str
    private: bool = False


def decide(config: Config, facts: Facts) -> Decision:
    """Who answers a prompt of which `facts` are known."""
    return _Deciding(config, facts).decision()


def escalation(config: Config, facts: Facts) -> Decision | None:
    """The cloud's answer in place of a local one that looks unsure; None where there can be none."""
    return _Deciding(config, facts).escalation()


def local_model(config: Config, facts: Facts) -> LocalModel:
    """The best local model for a prompt, whoever else could answer it."""
    return _Deciding(config, facts).local()[0]


def needed(config: Config, facts: Facts) -> float | None:
    """The probability that the best local model's answer would be worse than a big one's."""
    deciding = _Deciding(config, facts)
    return None if deciding.strong is None else deciding.needed(deciding.local()[0], deciding.strong)


class _Deciding:
    def __init__(self, config: Config, facts: Facts) -> None:
        self.config, self.facts = config, facts
        self.private = _private(config, facts)
        self.strong = facts.strong_probability
        self.domain = facts.choices.get(DOMAIN)

    def decision(self) -> Decision:
        unsafe = self.facts.scores.get(UNSAFE, {}).get(YES, 0.0)
        if unsafe > self.config.unsafe_threshold:
            return self._refuse("unsafe", f"it is unsafe with a probability of {unsafe:.0%}", self.config.refusal)
        for rule in self.config.rules:
            if self._holds(rule):
                return self._by_rule(rule)
        return self._by_probability()

    def escalation(self) -> Decision | None:
        found, _ = self._cloud(self.config.cloud.values())
        return self._route(*found, "escalation", "the local answer looks unsure") if found else None

    def _holds(self, rule: Rule) -> bool:
        heads = self.facts.scores
        return all(
            head in heads and condition.holds(self.facts.choices.get(head), heads[head])
            for head, condition in rule.when.items()
        )

    def _by_rule(self, rule: Rule) -> Decision:
        named = f"the rule {rule.name!r} says {rule.then}"
        if rule.then == REFUSE:
            return self._refuse(rule.name, named, rule.refusal or self.config.refusal)
        if rule.then == LOCAL or rule.then in self.config.local:
            chosen = self.local() if rule.then == LOCAL else (self.config.local[rule.then], {})
            return self._route(*chosen, rule.name, named)
        wanted = self.config.cloud.values() if rule.then == CLOUD else [self.config.cloud[rule.then]]
        found, barrier = self._cloud(wanted)
        if found is None:
            return self._route(*self.local(), barrier.rule, f"{named}, but {barrier.reason}")
        return self._route(*found, rule.name, named)

    def _by_probability(self) -> Decision:
        local, values = self.local()
        if self.private:
            return self._here(local, values, self.private.rule, self.private.reason)
        if self.strong is None:
            return self._here(local, values, "default", "the router does not say whether it needs a strong model")
        needed = self.needed(local, self.strong)
        to_cloud = needed >= self.config.threshold
        why = f"it needs more than {local.name} with a probability of {needed:.0%}"
        rule, compared = "threshold", f"{'not ' if to_cloud else ''}below {self.config.threshold:.0%}"
        if self.facts.preferred is not None:
            to_cloud = self.facts.preferred == CLOUD
            rule, compared = "feedback", f"which feedback taught is {'' if to_cloud else 'not '}worth the price"
        if not to_cloud and self.domain in local.domains:
            return self._here(
                local, values, "domain", f"{local.name} is the expert for {self.domain}; {why}, {compared}"
            )
        if not to_cloud:
            return self._here(local, values, rule, f"{why}, {compared}")
        found, barrier = self._cloud(self.config.cloud.values())
        if found is None:
            return self._here(local, values, barrier.rule, f"{why}, but {barrier.reason}")
        return self._route(*found, rule, f"{why}, {compared}")

    def needed(self, local: LocalModel, strong: float) -> float:
        """The probability that a better model than `local` is needed; what feedback taught is about it already."""
        if self.facts.strong is not None:
            return self.facts.strong
        return min(1.0, strong * (1 - local.ability) / (1 - _USUAL_ABILITY))

    def local(self) -> tuple[LocalModel, Mapping[str, float]]:
        found, values = self._best(self.config.local.values())
        assert isinstance(found, LocalModel)
        return found, values

    def _cloud(self, wanted: Iterable[CloudModel]) -> tuple[tuple[Target, Mapping[str, float]] | None, _Barrier]:
        """The best of those that can be asked, or None and why there is none."""
        barrier = self.private or _Barrier("no endpoint", "the configuration has no cloud endpoint")
        able = []
        for model in () if self.private else wanted:
            if why := self.facts.unavailable.get(model.name):
                barrier = _Barrier("unavailable", why)
            elif self.facts.budget_left is not None and self.facts.budget_left < self._cost(model):
                barrier = _Barrier(
                    "budget", f"the budget of {self.config.budget} is spent, or reserved by answers under way"
                )
            else:
                able.append(model)
        return (self._best(able) if able else None), barrier

    def _best(self, models: Iterable[Target]) -> tuple[Target, Mapping[str, float]]:
        """By the weighted sum of Tryage (Hari and Thomson 2023), among the domain's experts if there are any."""
        every = list(models)
        experts = [m for m in every if self.domain in m.domains]
        models = experts or [m for m in every if not m.domains] or every
        weights, strong = self.config.weights, self.strong if self.strong is not None else 0.5
        price = max((self._cost(m) for m in models), default=0.0) or 1.0
        latency = max((m.latency for m in models), default=0.0) or 1.0
        values = {
            m.name: weights.quality * (1 - strong * (1 - m.ability))
            + weights.privacy * m.trust
            - weights.price * self._cost(m) / price
            - weights.latency * m.latency / latency
            for m in models
        }
        return max(models, key=lambda m: values[m.name]), values

    def _cost(self, model: Target) -> float:
        tokens = min(self.facts.answer_tokens, model.sampling.get("max_tokens", self.facts.answer_tokens))
        return model.cost(self.facts.prompt_tokens, tokens)

    def _route(self, model: Target, values: Mapping[str, float], rule: str, reason: str) -> Decision:
        route = LOCAL if isinstance(model, LocalModel) else CLOUD
        return self._decision(route, model.name, reason, rule, cost=self._cost(model), values=values)

    def _refuse(self, rule: str, reason: str, refusal: str) -> Decision:
        return self._decision(REFUSE, None, reason, rule, refusal=refusal)

    def _decision(self, route: str, target: str | None, reason: str, rule: str, **rest: Any) -> Decision:
        private = self.private is not None
        return Decision(route, target, reason, rule, self.facts.scores, private=private, strong=self.strong, **rest)

    def _here(self, local: LocalModel, values: Mapping[str, float], rule: str, reason: str) -> Decision:
        """Local by the probability alone."""
        return replace(self._route(local, values, rule, reason), escalates=not self.private)


def _private(config: Config, facts: Facts) -> _Barrier | None:
    if config.private:
        return _Barrier("private", "private = true: nothing leaves this machine", private=True)
    if facts.local_only:
        return _Barrier("local only", "it was asked to stay on this machine", private=True)
    if facts.confidential:
        return _Barrier("private", "the conversation is private: it stays on this machine", private=True)
    if facts.personal:
        reason = f"the conversation has {describe(facts.personal)}: it stays on this machine"
        return _Barrier("personal data", reason, private=True)
    return None
