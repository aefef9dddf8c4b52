"""Classifying prompts with an ONNX file, in well under a millisecond."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemoe.default_model import router_path
from edgemoe.errors import ModelError
from edgemoe.routing.export import CHECKSUM, DESCRIPTION, FORMAT, checksum, stored_checksum
from edgemoe.routing.features import Hashing, normalise
from edgemoe.routing.heads import YES, choose

if TYPE_CHECKING:
    from edgemoe.config import Config
    from edgemoe.routing.decider import Decider
    from edgemoe.routing.policy import Decision

DOMAIN, STRONG, UNSAFE = "domain", "strong", "unsafe"
"""Names of the heads that the shipped router has."""

_LARGEST_FILE = 64 << 20
_KEPT = 8  # deciders of one router


@dataclass(frozen=True)
class Classification:
    """What the heads of a router say of one prompt.

    `choices` has one label for each head, None where the prompt is out of its distribution; `scores` has the
    calibrated probability of every label of every head, `NONE` (no label applies) included.
    """

    choices: Mapping[str, str | None]
    scores: Mapping[str, Mapping[str, float]]

    @property
    def domain(self) -> str | None:
        """What the prompt is about, or None when it is out of distribution."""
        return self.choices.get(DOMAIN)

    @property
    def domain_scores(self) -> Mapping[str, float]:
        """The probability of each domain; empty without such a head."""
        return self.scores.get(DOMAIN, {})

    @property
    def strong_probability(self) -> float | None:
        """That a small model's answer is worse than a big one's; None without such a head."""
        return self._yes(STRONG)

    @property
    def unsafe_probability(self) -> float | None:
        """That the prompt is abusive or asks for harm; None without such a head."""
        return self._yes(UNSAFE)

    def _yes(self, head: str) -> float | None:
        return self.scores[head].get(YES) if head in self.scores else None


@dataclass(frozen=True)
class _HeadInfo:
    name: str
    labels: tuple[str, ...]
    open: tuple[str, ...]
    offsets: tuple[float, ...]
    effects: tuple[float, ...] = ()  # of topics


class Router:
    """Classifies prompts; one object may be used by several threads, each call extracting into arrays of its own.

    Args:
        path: a file of `edgemoe route train`; the router that comes with edgemoe when it is None.

    Raises:
        ModelError: for a file that is missing, damaged, or no router.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else router_path()
        data = _read(self.path)
        self._session = _open(data, self.path)
        self.description = _description(self._session, self.path)
        self.hashing, self._heads = _parse(self.description, self.path)
        self._width = sum(len(head.labels) for head in self._heads)
        self._check_shapes()
        self._extractor = self.hashing.extractor()
        self._deciders: dict[int | None, Decider] = {}  # by the identity of the configuration; None: the user's

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """The labels of each head."""
        return {head.name: head.labels for head in self._heads}

    def classify(self, prompt: str) -> Classification:
        """Classify a prompt. Of one that is longer than 8,000 characters, the first 6,000 and last 2,000 are read."""
        logits = self.logits(prompt)
        choices: dict[str, str | None] = {}
        scores: dict[str, Mapping[str, float]] = {}
        first = 0
        for head in self._heads:
            last = first + len(head.labels)
            probabilities = _probabilities(logits[first:last])
            first = last
            scores[head.name] = dict(zip(head.labels, probabilities, strict=True))
            choices[head.name] = choose(probabilities, head.labels, head.open, head.offsets)
        return Classification(choices, scores)

    def decide(self, prompt: str, config: Config | None = None, *, local_only: bool = False) -> Decision:
        """Who would answer a prompt, by a configuration; by the user's one when it is None.

        Raises:
            ConfigError: for a configuration that is wrong.
        """
        from edgemoe.routing.decider import Decider

        key = None if config is None else id(config)  # a decider keeps its configuration, so that no other has its id
        decider = self._deciders.get(key)
        if decider is None:
            decider = self._deciders[key] = Decider(config, self)
            for other in [known for known in list(self._deciders) if known is not None][:-_KEPT]:
                self._deciders.pop(other, None)
        return decider.decide(prompt, local_only=local_only)

    def logits(self, prompt: str) -> list[float]:
        """Calibrated logits of all heads, one after the other; the same bits on every machine."""
        found = self._run("logits", prompt)
        logits, topics = found[: self._width], found[self._width :]
        last = -1
        for head in self._heads:
            last += len(head.labels)
            if head.effects:
                own, topics = _probabilities(topics[: len(head.effects)]), topics[len(head.effects) :]
                effect = sum(p * e for p, e in zip(own, head.effects, strict=True))
                logits[last] += round(effect, 9)  # exponentials may differ in their last bits
        return logits

    def units(self, prompt: str) -> list[float]:
        """What the last layer sees: the means of words, those of n-grams, and the dense features; integers."""
        return self._run("units", prompt)

    def _run(self, output: str, prompt: str) -> list[float]:
        words, grams, dense = self._extractor.extract(normalise(prompt))
        values: list[float] = self._session.run([output], {"words": words, "grams": grams, "dense": dense})[0].tolist()
        return values

    def _check_shapes(self) -> None:
        inputs = {i.name: i.type for i in self._session.get_inputs()}
        shapes = {o.name: o.shape for o in self._session.get_outputs()}
        count = self._width + sum(len(head.effects) for head in self._heads)
        if inputs != dict.fromkeys(("words", "grams", "dense"), "tensor(int32)") or shapes.get("logits") != [count]:
            raise ModelError(f"{self.path} is not a router of this version: its inputs or outputs are others")


def _read(path: Path) -> bytes:
    """A file's bytes, if its checksum says that they are what was written."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ModelError(f"{path} is no router: it has {path.stat().st_size} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the router {path} cannot be read: {error.strerror}") from error
    found = stored_checksum(data)
    if found is None:
        raise ModelError(f"{path} is no router of edgemoe: it has no {CHECKSUM}; make one with edgemoe route train")
    if checksum(found[1]) != found[0]:
        raise ModelError(f"{path} is damaged: its checksum is not that of its contents; copy or make it again")
    return data


def _open(data: bytes, path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is in the exception
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each code, with no other common base
        raise ModelError(f"{path} is no usable ONNX file: {' '.join(str(error).split())}") from error


def _description(session: Any, path: Path) -> dict[str, Any]:
    try:
        description = json.loads(session.get_modelmeta().custom_metadata_map[DESCRIPTION])
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path} is no router of edgemoe: its metadata has no readable {DESCRIPTION}") from error
    version = description.get("format") if isinstance(description, dict) else None
    if version != FORMAT:
        raise ModelError(f"{path} has format {version!r} and this edgemoe reads {FORMAT}: use the edgemoe that made it")
    return dict(description)


def _parse(description: dict[str, Any], path: Path) -> tuple[Hashing, tuple[_HeadInfo, ...]]:
    try:
        hashing = Hashing(**description["hashing"])
        heads = tuple(
            _HeadInfo(
                h["name"],
                tuple(h["labels"]),
                tuple(h["open"]),
                tuple(map(float, h["offsets"])),
                tuple(map(float, h["topics"])),
            )
            for h in description["heads"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} has incomplete metadata: {error!r}") from error
    bad = [h.name for h in heads if len(h.offsets) != len(h.labels) or not set(h.labels) - set(h.open)]
    if bad or not heads:
        raise ModelError(f"{path} has incomplete metadata: labels and offsets of {', '.join(bad) or 'no head'}")
    return hashing, heads


def _probabilities(logits: list[float]) -> list[float]:
    largest = max(logits)
    exponents = [math.exp(z - largest) for z in logits]
    total = sum(exponents)
    return [e / total for e in exponents]
