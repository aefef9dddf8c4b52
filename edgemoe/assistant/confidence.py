"""How sure a local model seems of an answer: of its first tokens, and when it is asked."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgemoe.conversation import Message, render

PROBED = 16
"""Tokens of an answer that are looked at."""

Coefficients = tuple[float, float, float]

USUAL: Coefficients = (2.0, 1.0, -0.5)
"""For a model that nothing was measured of: intercept, mean log-probability, mean entropy (see `Probe.confidence`)."""


class Probe:
    """A stopping criterion that never stops: llama-cpp-python shows it the logits from which each token is drawn.

    It keeps the mean log-probability of the first tokens and the mean entropy of what they were drawn from, in nats.
    Means, so that answers of any length compare.
    """

    def __init__(self, tokens: int = PROBED) -> None:
        self._most = tokens
        self._rows: list[npt.NDArray[np.float32]] = []
        self._logprobs: list[float] = []
        self._entropies: list[float] = []

    def __call__(self, tokens: npt.NDArray[np.intc], logits: npt.NDArray[np.float32]) -> bool:
        if self._rows:  # the token that was drawn the last time is the newest now
            self._logprobs.append(float(self._rows.pop()[tokens[-1]]))
        if len(self._entropies) < self._most:
            row = log_softmax(logits)
            self._entropies.append(float(-(np.exp(row) * row).sum()))
            self._rows.append(row)
        return False

    @property
    def done(self) -> bool:
        """Whether it has seen all that it looks at."""
        return len(self._logprobs) >= self._most

    @property
    def mean_logprob(self) -> float:
        """Of the tokens drawn so far; 0 when there is none, as of a certain one."""
        return sum(self._logprobs) / len(self._logprobs) if self._logprobs else 0.0

    @property
    def mean_entropy(self) -> float:
        """Of the distributions that they were drawn from."""
        return sum(self._entropies) / len(self._entropies) if self._entropies else 0.0

    def confidence(self, coefficients: Coefficients | None = None) -> float:
        """Probability that the answer is good."""
        return confidence_of(self.mean_logprob, self.mean_entropy, coefficients or USUAL)


def confidence_of(mean_logprob: float, mean_entropy: float, coefficients: Coefficients) -> float:
    """The logistic of a + b x mean log-probability + c x mean entropy."""
    a, b, c = coefficients
    return _logistic(a + b * mean_logprob + c * mean_entropy)


def log_softmax(logits: Any) -> npt.NDArray[np.float32]:
    """Of one row."""
    row = np.asarray(logits, np.float32)
    row = row - row.max()
    return np.asarray(row - np.log(np.exp(row).sum()), np.float32)


def self_verification(llm: Any, question: str, answer: str) -> float:
    """The probability that the model gives to "yes" when it is asked whether an answer is right.

    AutoMix (Aggarwal et al. 2024, arXiv 2310.12963) samples this several times; the logits have it at once.
    """
    from llama_cpp import StoppingCriteriaList

    asked = f"Question: {question}\n\nAnswer: {answer}\n\nIs this answer correct? Reply with yes or no."
    messages: list[Message] = [{"role": "user", "content": asked}]
    prompt = render(llm, messages).tokens
    if len(prompt) >= llm.n_ctx():
        return 0.5
    rows: list[npt.NDArray[np.float32]] = []

    def keep(tokens: Any, logits: Any) -> bool:
        rows.append(log_softmax(logits))
        return True

    llm.create_completion(prompt, max_tokens=1, temperature=0.0, stopping_criteria=StoppingCriteriaList([keep]))
    yes, no = (float(np.exp(rows[0][_first_tokens(llm, word)]).sum()) for word in ("yes", "no"))
    return yes / (yes + no) if yes + no > 0 else 0.5


def _first_tokens(llm: Any, word: str) -> list[int]:
    """With which an answer of this word may begin."""
    forms = (word, word.capitalize(), word.upper(), f" {word}", f" {word.capitalize()}")
    tokens = [llm.tokenize(form.encode(), add_bos=False, special=False) for form in forms]
    return sorted({found[0] for found in tokens if found})


class Probed(NamedTuple):
    """What the first tokens of an answer say, and whether it was good."""

    mean_logprob: float
    mean_entropy: float
    good: bool


def probe_answers(llm: Any, rows: Sequence[tuple[str, str]], max_tokens: int) -> list[Probed]:
    """Lets a model answer prompts greedily; an answer is good where it holds the known one as words."""
    from llama_cpp import StoppingCriteriaList

    found = []
    for prompt, known in rows:
        rendered = render(llm, [{"role": "user", "content": prompt}])
        probe = Probe()
        criteria = [c for c in (rendered.stopping_criteria, probe) if c is not None]
        answer = llm.create_completion(
            rendered.tokens,
            max_tokens=max_tokens,
            temperature=0.0,
            stop=rendered.stop,
            stopping_criteria=StoppingCriteriaList(criteria),
        )
        good = f" {_words(known)} " in f" {_words(answer['choices'][0]['text'])} "
        found.append(Probed(probe.mean_logprob, probe.mean_entropy, good))
    return found


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def fit_confidence(rows: Sequence[Probed], ridge: float = 0.05) -> Coefficients:
    """Coefficients that make the logistic the probability of a good answer, by logistic regression.

    Newton's method; `ridge` holds the two slopes, in units of the columns' deviations, so that few rows are enough.

    Raises:
        ValueError: when all answers were good, or none.
    """
    values = np.asarray([(m, e) for m, e, _ in rows], np.float64).reshape(-1, 2)
    good = np.asarray([g for _, _, g in rows], np.float64)
    if len(good) < 2 or good.min() == good.max():
        raise ValueError("answers of both kinds are needed, good ones and bad ones")
    centre, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-6)
    x = np.column_stack([np.ones(len(good)), (values - centre) / scale])
    penalty = np.diag([1e-6, ridge * len(good), ridge * len(good)])
    w = np.zeros(3)
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (p - good) + penalty @ w
        step = np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]) + penalty, gradient)
        w -= step
        if np.abs(step).max() < 1e-9:
            break
    slopes = w[1:] / scale
    return float(w[0] - slopes @ centre), float(slopes[0]), float(slopes[1])


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(min(value, 500.0), -500.0)))
