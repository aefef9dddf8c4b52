"""Measures a default model: perplexity on held-out stories, and whether it does what it is asked at temperature 0.7."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import numpy as np

from default_model.stories import ANIMALS, Story, form_of, repeats_itself, sentences, with_article
from edgemoe import Llama

CASES = 50
# Wordings that training does not use.
ASKED = (
    "I'd love a story with {} in it.",
    "Could I hear something about {}?",
    "Please make up a tale about {} for my son.",
)
GIVEN = ("I need a story in which these words come up: {}, {}, {}.", "Please put {}, {} and {} into one story.")
TURNS = 10
LONGEST = 1900  # bytes of a story whose perplexity is measured, so that it fits the 512 tokens of the model before


@dataclass(frozen=True)
class Measure:
    """A line of the table: how many of how many did what was asked."""

    name: str
    target: int
    count: int
    cases: int = CASES


@dataclass
class Reader:
    """A model that is asked; the seed of each answer follows from `seed` and the number of the answer."""

    llama: Llama
    seed: int
    temperature: float = 0.7
    asked: int = field(default=0)

    def ask(self, messages: list[dict[str, str]], tokens: int = 400) -> str:
        """The answer to a conversation; "" when it does not end within the tokens or the context."""
        self.asked += 1
        try:
            done: Any = self.llama.create_chat_completion(
                messages,
                temperature=self.temperature,
                top_p=0.95,
                max_tokens=tokens,
                seed=self.seed * 1000 + self.asked,
            )
        except ValueError:  # the context is full
            return ""
        choice = done["choices"][0]
        return str(choice["message"]["content"]).strip() if choice["finish_reason"] == "stop" else ""

    def talk(self, *requests: str, system: str | None = None) -> list[str]:
        """Answers to requests, one after the other."""
        messages = [{"role": "system", "content": system}] if system else []
        answers = []
        for request in requests:
            messages.append({"role": "user", "content": request})
            answers.append(self.ask(messages))
            messages.append({"role": "assistant", "content": answers[-1]})
        return answers


def mentions(text: str, word: str) -> bool:
    """In one of the word's usual forms."""
    return bool(form_of(word).search(text))


def keeps(text: str, word: str) -> bool:
    """Mentions the word, and in its last third too."""
    parts = sentences(text)
    return mentions(text, word) and mentions(" ".join(parts[-max(1, len(parts) // 3) :]), word)


def is_another(first: str, second: str) -> bool:
    """A story of five sentences or more, of which at most a third were in the first."""
    before, after = set(sentences(first)), sentences(second)
    return len(after) >= 5 and sum(one in before for one in after) * 3 <= len(after)


def is_shorter(first: str, second: str, topic: str) -> bool:
    """At most 70% of the words, and about the same."""
    return 0 < 10 * len(second.split()) <= 7 * len(first.split()) and mentions(second, topic)


def perplexity(llama: Llama, texts: list[str], tokens: int | None = None) -> tuple[float, float, int]:
    """Perplexity, bits for each byte, and the number of tokens that the perplexity is for.

    Each story stands alone between two <|endoftext|>. With `tokens` the perplexity is for that many: another
    tokenizer's number of tokens of the same texts, so that models with different tokenizers compare. Stories of
    more than LONGEST bytes do not count.
    """
    total, counted, size = 0.0, 0, 0
    for text in (one for one in texts if len(one.encode()) <= LONGEST):
        ids = [0, *llama.tokenize(text.encode(), add_bos=False, special=False), 0]
        llama.reset()
        llama.eval(ids[:-1])
        scores = np.array(llama.scores[: len(ids) - 1], dtype=np.float64)
        top = scores.max(1)
        total += float(
            (np.log(np.exp(scores - top[:, None]).sum(1)) + top - scores[np.arange(len(top)), ids[1:]]).sum()
        )
        counted, size = counted + len(top), size + len(text.encode())
    return math.exp(total / (tokens or counted)), total / math.log(2) / size, tokens or counted


def stories_about(reader: Reader, held_out: list[Story], cases: int) -> list[Measure]:
    """Requests that name an animal or a thing, of which held-out stories tell."""
    topics = list(islice(cycle([story.topic for story in held_out if story.topic]), cases))
    asked = [template.format(with_article(topic)) for template, topic in zip(cycle(ASKED), topics, strict=False)]
    answers = [reader.talk(request)[0] for request in asked]
    pairs = list(zip(answers, topics, strict=True))
    return [
        Measure("names an animal or a thing: the story mentions it", 45, sum(mentions(*pair) for pair in pairs), cases),
        Measure("... and keeps it to the end", 35, sum(keeps(*pair) for pair in pairs), cases),
        Measure("no sentence twice", 45, sum(bool(one) and not repeats_itself(one) for one in answers), cases),
    ]


def stories_with_words(reader: Reader, held_out: list[Story], cases: int) -> list[Measure]:
    """Requests with three words of a held-out story."""
    rng = random.Random(reader.seed)
    given = [rng.sample(story.words, 3) for story in held_out if len(story.words) >= 8][:cases]
    count = 0
    for template, words in zip(cycle(GIVEN), given, strict=False):
        (answer,) = reader.talk(template.format(*words))
        count += all(mentions(answer, word) for word in words)
    return [Measure("three words given: uses all three", 30, count, len(given))]


def follow_ups(reader: Reader, cases: int) -> list[Measure]:
    """What is said after a story, and system messages; a quarter of the cases each."""
    rng = random.Random(reader.seed)
    kinds: dict[str, Callable[[Reader, str, str], bool]] = {
        '"another one"': _another,
        '"make it about ..."': _change,
        '"shorter"': _shorter,
        "a system message with a name and a hero": _narrator,
    }
    counts, sizes = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
    for _, (name, kind) in zip(range(cases), cycle(kinds.items()), strict=False):
        first, second = rng.sample(ANIMALS[:40], 2)
        counts[name] += kind(reader, first, second)
        sizes[name] += 1
    each = [Measure(name, round(0.8 * sizes[name]), counts[name], sizes[name]) for name in kinds]
    return [Measure("follow-ups, all", round(0.8 * cases), sum(counts.values()), cases), *each]


def _another(reader: Reader, topic: str, _: str) -> bool:
    return is_another(*reader.talk(f"Tell me a story about {with_article(topic)}.", "another one"))


def _change(reader: Reader, topic: str, other: str) -> bool:
    answers = reader.talk(f"Tell me a story about {with_article(topic)}.", f"make it about {with_article(other)}")
    return keeps(answers[1], other)


def _shorter(reader: Reader, topic: str, _: str) -> bool:
    return is_shorter(*reader.talk(f"Tell me a story about {with_article(topic)}.", "shorter"), topic)


def _narrator(reader: Reader, topic: str, _: str) -> bool:
    system = f"Your name is Nora. Your stories are about {with_article(topic)}."
    who, story = reader.talk("What's your name?", "Tell me a story.", system=system)
    return mentions(who, "Nora") and keeps(story, topic)


ANSWERS = {
    "Hello!": "",
    "thanks": "",
    "what can you do": "stor",
    "what is edgemoe": "expert",
    "who are you": "stor",
    "What is 3 + 4?": "",
}


def small_talk(reader: Reader) -> tuple[Measure, list[tuple[str, str]]]:
    """Short answers (at most 50 words) that say what they have to, and the answers."""
    said = [(request, reader.talk(request)[0]) for request in ANSWERS]
    good = sum(0 < len(answer.split()) <= 50 and ANSWERS[request] in answer for request, answer in said)
    return Measure("short sensible answers to small talk", len(said), good, len(said)), said


def ten_turns(reader: Reader) -> Measure:
    """A conversation of ten turns, of which every other is a story, within the context."""
    requests = [
        request
        for animal in ANIMALS[: TURNS // 2]
        for request in (f"A short story about a {animal}, please.", "thanks")
    ]
    answers = reader.talk(*requests)
    return Measure("turns of a conversation that fit", TURNS, sum(map(bool, answers)), TURNS)
