"""What a configuration says, checked: frozen records with a default for everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgemoe.cloud import Budget, Endpoint
from edgemoe.files import state_folder

ESCALATE = ("ask", "auto", "never")
PERSONAL_DATA = ("email", "phone", "card", "iban", "id", "key", "birth", "address", "network")
LOCAL, CLOUD, REFUSE = "local", "cloud", "refuse"
"""Routes; a rule may name them in place of a target, so no target has these names."""

REFUSAL = "I would rather not help with this. If I have misunderstood you, please say it in other words."


@dataclass(frozen=True)
class LocalModel:
    """A model that runs here. `path` None is the small model that comes with edgemoe.

    `ability` (0 to 1) is how good its answers to hard prompts are, `latency` its seconds to the first token; both only
    weigh it against other models. `domains` are the labels whose expert it is. `confidence` has the three coefficients
    that turn what its tokens say into a probability (see `edgemoe.assistant.confidence`).
    """

    name: str
    path: Path | None = None
    memory: str | int | None = None
    quality: str = "exact"
    ctx: int | None = None
    threads: int | None = None
    domains: tuple[str, ...] = ()
    ability: float = 0.5
    latency: float = 1.0
    system: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    confidence: tuple[float, float, float] | None = None

    @property
    def trust(self) -> float:
        """Nothing leaves the machine."""
        return 1.0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Nobody asks money for it."""
        return 0.0


@dataclass(frozen=True)
class CloudModel:
    """A model behind an endpoint. `trust` (0 to 1) says how far its owner is trusted, for the weight of privacy."""

    name: str
    endpoint: Endpoint
    domains: tuple[str, ...] = ()
    ability: float = 0.9
    latency: float = 1.0
    trust: float = 0.0
    system: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Money for one answer."""
        return self.endpoint.cost(prompt_tokens, completion_tokens)


Target = LocalModel | CloudModel


@dataclass(frozen=True)
class Condition:
    """What a rule asks of one head: one of `labels` ("none" for out of distribution), or a probability of yes."""

    labels: tuple[str, ...] = ()
    least: float = 0.0
    most: float = 1.0

    def holds(self, choice: str | None, scores: Mapping[str, float]) -> bool:
        """For a head's choice and the probabilities of its labels."""
        if self.labels:
            return (choice or "none") in self.labels
        return self.least <= scores.get("yes", 0.0) <= self.most


@dataclass(frozen=True)
class Rule:
    """Where all of `when` holds, `then` answers: a target's name, "local", "cloud" or "refuse"."""

    name: str
    when: Mapping[str, Condition]
    then: str
    refusal: str | None = None


@dataclass(frozen=True)
class Weights:
    """What counts when several models could answer; each of the four is measured from 0 to 1."""

    quality: float = 1.0
    price: float = 0.3
    latency: float = 0.1
    privacy: float = 0.1


@dataclass(frozen=True)
class Config:
    """All settings. `path` is the file they are from, None where there was none."""

    private: bool = False
    personal_data: tuple[str, ...] = PERSONAL_DATA
    threshold: float = 0.2
    unsafe_threshold: float = 0.8
    refusal: str = REFUSAL
    escalate: str = "ask"
    confidence: float = 0.5
    verify: bool = False
    budget: Budget | None = None
    prompts_per_day: float | None = None
    answer_tokens: int = 300
    feedback: bool = True
    memory: str | int = "auto"
    router: Path | None = None
    heads: tuple[Path, ...] = ()
    state: Path = field(default_factory=state_folder)
    weights: Weights = Weights()
    local: Mapping[str, LocalModel] = field(default_factory=lambda: {"default": LocalModel("default")})
    cloud: Mapping[str, CloudModel] = field(default_factory=dict)
    rules: Sequence[Rule] = ()
    path: Path | None = None

    @property
    def ledger(self) -> Path:
        """The file that counts money."""
        return self.state / "ledger.json"

    @property
    def learned(self) -> Path:
        """The file of what feedback taught."""
        return self.state / "feedback.msgpack"

    def target(self, name: str) -> Target:
        """The model of this name."""
        return self.local[name] if name in self.local else self.cloud[name]
