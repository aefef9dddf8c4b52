"""Decisions for real prompts: the classifier, the detector of personal data, keys, circuit breakers and money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from edgemoe.cloud import Cloud, Ledger, estimated_usage
from edgemoe.config import Config, Rule, Target, load_config
from edgemoe.config.tables import nearest
from edgemoe.errors import ConfigError, EdgeMoEError, ReadError
from edgemoe.routing.explain import features_of
from edgemoe.routing.heads import NONE, YES
from edgemoe.routing.learner import Learner
from edgemoe.routing.messages import Message, last_prompt, messages_of, sent_texts, texts_in
from edgemoe.routing.policy import Decision, Facts, decide, escalation, needed
from edgemoe.routing.privacy import find_personal_data
from edgemoe.routing.router import Classification, Router


@dataclass(frozen=True)
class Lesson:
    """How many answers were rated, and the probability that the prompt needs a strong model, before and now."""

    ratings: int
    before: float
    now: float


class Decider:
    """Decides by a configuration, the user's one when it is None. Threads may share it.

    Raises:
        ConfigError: for a configuration that is wrong, also where a rule names a head or a label that no router has.
        ModelError: for a router that cannot be used.
    """

    def __init__(self, config: Config | None = None, router: Router | None = None) -> None:
        self.config = config if config is not None else load_config()
        self.router = router or Router(self.config.router)
        self.routers = [self.router, *(Router(path) for path in self.config.heads)]
        self.clouds = {name: Cloud(model.endpoint) for name, model in self.config.cloud.items()}
        self.ledger = Ledger(self.config.ledger)
        self.learner = Learner(self.config, self.router)
        self._check_heads()

    def decide(self, prompt: str | Sequence[Message], **known: Any) -> Decision:
        """Who answers a prompt, or the last message of a conversation; `known` as for `facts`."""
        return decide(self.config, self.facts(prompt, **known))

    def explain(self, prompt: str | Sequence[Message], **known: Any) -> Decision:
        """As `decide`, with the words that mattered."""
        decision = self.decide(prompt, **known)
        heads = dict.fromkeys(
            ["domain", "strong", "unsafe", *(head for rule in self.config.rules for head in rule.when)]
        )
        return replace(decision, features=features_of(self.routers, last_prompt(messages_of(prompt)), heads))

    def facts(
        self,
        prompt: str | Sequence[Message],
        *,
        confidential: bool = False,
        local_only: bool = False,
        max_tokens: int | None = None,
        beside: Any = None,
    ) -> Facts:
        """What is known of a prompt. Personal data anywhere in the conversation, or `beside` it, counts.

        Raises:
            EdgeMoEError: for a conversation that is none.
        """
        messages = messages_of(prompt)
        found = self.classify(last_prompt(messages))
        kinds = self.config.personal_data
        texts = chain(*map(sent_texts, messages), texts_in(beside))
        personal = {one.kind for text in texts for one in find_personal_data(text, kinds)}
        stays = self.config.private or confidential or local_only or bool(personal)
        expected = self.config.answer_tokens
        offline = Facts(
            choices=found.choices,
            scores=found.scores,
            personal=tuple(sorted(personal)),
            confidential=confidential,
            local_only=local_only,
            prompt_tokens=estimated_usage(messages, "").prompt_tokens,
            answer_tokens=min(expected, max_tokens) if max_tokens else expected,
            **({} if stays else self._of_clouds()),
        )
        probability = needed(self.config, offline)
        if stays or not self.config.cloud or probability is None:
            return offline
        return replace(offline, strong=self.learner.strong(last_prompt(messages), probability))

    def decide_to_answer(self, prompt: str | Sequence[Message], facts: Facts) -> Decision:
        """As `decide`, for a prompt that is about to be answered: it counts where feedback watches over a budget."""
        decision, instead = decide(self.config, facts), escalation(self.config, facts)
        if decision.rule not in ("threshold", "domain") or instead is None:
            return decision
        probability = needed(self.config, replace(facts, strong=None))
        if probability is None:
            return decision
        preferred = self.learner.choose(last_prompt(messages_of(prompt)), probability, instead.cost)
        return decide(self.config, replace(facts, preferred=preferred))

    def rate(self, prompt: str | Sequence[Message], facts: Facts, route: str, *, good: bool) -> Lesson:
        """Learns whether the answer of a route was good.

        Raises:
            EdgeMoEError: for a router that does not say whether a strong model is needed, and without feedback.
            ReadError, WriteError: when what was learned cannot be read or saved.
        """
        offline = needed(self.config, replace(facts, strong=None))
        if offline is None:
            raise EdgeMoEError("the router has no head for strong models, so that there is nothing to learn")
        asked = last_prompt(messages_of(prompt))
        before = self.learner.strong(asked, offline)
        ratings = self.learner.rate(asked, offline, route, good=good)
        now = self.learner.strong(asked, offline)
        return Lesson(ratings, offline if before is None else before, offline if now is None else now)

    def classify(self, prompt: str) -> Classification:
        """What all routers say of a prompt."""
        choices: dict[str, str | None] = {}
        scores: dict[str, Mapping[str, float]] = {}
        for router in self.routers:
            found = router.classify(prompt)
            choices |= found.choices
            scores |= found.scores
        return Classification(choices, scores)

    def budget_left(self) -> float | None:
        """Money that the budget still has, less what answers under way have reserved; None without a budget."""
        budget = self.config.budget
        return self.ledger.left(budget) if budget and self.config.cloud else None

    def _of_clouds(self) -> dict[str, Any]:
        """Which cannot be asked, and the money for all; a ledger that cannot be read means that none can."""
        try:
            return {"unavailable": self._unavailable(), "budget_left": self.budget_left()}
        except ReadError as error:
            return {"unavailable": dict.fromkeys(self.clouds, str(error))}

    def _unavailable(self) -> dict[str, str]:
        reasons = {name: cloud.unavailable() for name, cloud in self.clouds.items()}
        return {name: reason for name, reason in reasons.items() if reason}

    def _check_heads(self) -> None:
        heads: dict[str, tuple[str, ...]] = {}
        for router in self.routers:
            for head, labels in router.labels.items():
                if head in heads:
                    raise ConfigError(f"{router.path} has a head {head!r}, and so has another router: train one anew")
                heads[head] = labels
        for rule in self.config.rules:
            _check_rule(rule, heads)
        models: list[Target] = [*self.config.local.values(), *self.config.cloud.values()]
        for model in models:
            for label in model.domains if "domain" in heads else ():
                if label not in (*heads["domain"], NONE):
                    raise ConfigError(f"{model.name} is for the domain {label!r}: {_instead(label, heads['domain'])}")


def _check_rule(rule: Rule, heads: Mapping[str, tuple[str, ...]]) -> None:
    for head, condition in rule.when.items():
        if head not in heads:
            raise ConfigError(f"{rule.name} asks for the head {head!r}: {_instead(head, heads)}")
        if not condition.labels and YES not in heads[head]:
            raise ConfigError(f"{rule.name} asks {head} for a probability, but its labels are {', '.join(heads[head])}")
        for label in condition.labels:
            if label not in (*heads[head], NONE):
                raise ConfigError(f"{rule.name} asks whether {head} is {label!r}: {_instead(label, heads[head])}")


def _instead(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = nearest(word, known)
    return f"did you mean {near}?" if near else f"there are {', '.join(known)}"
