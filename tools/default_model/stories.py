"""The stories to train on, and what can be read out of them: heroes, names, words."""

from __future__ import annotations

import collections
import json
import lzma
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

END = "<|endoftext|>"
# What may be trained on without a condition on the model's name. The rest of the collection was written, wholly or in
# part, by models whose licence sets one: fables (Llama 3.1 8B and others), tales-child and tales-bedtime (Llama 3.1).
SOURCES = {"tinystories": "CDLA-Sharing-1.0", "storybooks": "CC BY"}

ANIMALS = """
cat dog bird rabbit bunny bear mouse fox frog duck fish turtle lion tiger elephant monkey horse pony cow pig
sheep lamb goat chicken hen owl bee butterfly ant spider snake squirrel deer wolf dragon unicorn dinosaur whale
dolphin crab octopus shark penguin puppy kitten giraffe zebra crocodile hippo kangaroo koala panda hedgehog
raccoon swan parrot crow eagle worm snail ladybug caterpillar bat camel donkey peacock otter beaver seal gorilla
""".split()  # noqa: SIM905 (one word a line would be long)
THINGS = """princess prince king queen knight witch wizard fairy pirate robot giant mermaid monster clown farmer doctor
truck train boat ship plane bike bus rocket balloon kite ball doll teddy drum guitar piano book hat coat dress
shoe sock scarf umbrella lamp clock mirror key box bag basket cup spoon pot cake cookie pie apple banana orange
carrot pumpkin pizza egg flower rose tree leaf seed castle tower bridge snowman storm rainbow moon star cloud
rock shell gem crown ring puzzle swing slide sandcastle bell letter gift painting crayon pencil blanket pillow
ladder wagon tent candle jar""".split()  # noqa: SIM905 (one word a line would be long)
TOPICS = frozenset(ANIMALS) | frozenset(THINGS)
PLURALS = {"mouse": "mice", "fish": "fish", "sheep": "sheep", "deer": "deer", "wolf": "wolves", "leaf": "leaves"}
_COMMON = """
about after again along always another around asked away back because been before began being best better both
came come could didn't does doing done don't down each even ever every everyone everything felt find first found
from gave gets give goes going gone good great happy have heard help helped here however into it's just keep
kept knew know known lets like liked lived long look looked looking lots loved made make many more most much
must named need needed never next nice once only other others over play played playing really said same saw says
see she should some someone something soon started still suddenly sure take tell than thank that that's the
their them then there these they thing things think this those thought time told together too took tried try
under until upon very want wanted wants was way well went were what when where which while who will with would
yes you your""".split()  # noqa: SIM905 (one word a line would be long)
_CAPITAL = re.compile(r"(?<=[a-z,] )([A-Z][a-z]{2,8})\b")


def plural(noun: str) -> str:
    """Of a noun of the lists."""
    if noun in PLURALS:
        return PLURALS[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def with_article(words: str) -> str:
    """With "a" or "an" before them."""
    return ("an " if words[0] in "aeiou" and not words.startswith("uni") else "a ") + words


def form_of(word: str) -> re.Pattern[str]:
    """Finds a word in its usual forms: plural, -s, -ed, -ing."""
    stem = re.escape(word[:-1]) + "(?:e|i)?" if word.endswith(("e", "y")) and len(word) > 3 else re.escape(word)
    others = "|".join(re.escape(one) for one in {plural(word), word})
    return re.compile(rf"\b(?:{others}|{stem}(?:{re.escape(word[-1])})?(?:s|es|d|ed|ing)?)\b", re.IGNORECASE)


def sentences(text: str) -> list[str]:
    """Of a story, with the quotes that end them."""
    return [one.strip() for one in re.findall(r"[^.!?]+[.!?]+[\"']?\s*|[^.!?]+$", text) if one.strip()]


@dataclass(frozen=True)
class Story:
    """A text with what it is about.

    topic is the animal or thing that it speaks of most from its beginning on, if any; names are those of its
    people, the most frequent first; words are content words of it, from which three can be given.
    """

    text: str
    topic: str | None
    names: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def is_short(self) -> bool:
        """Leaves room in a conversation."""
        return len(self.text) < 900


def topic_of(text: str) -> str | None:
    """The animal or thing that is named at least three times, at the beginning and towards the end."""
    words = re.findall(r"[a-z]+", text.lower())
    count = collections.Counter(words)
    both = {
        noun: count[noun] + (count[plural(noun)] if plural(noun) != noun else 0) for noun in TOPICS if noun in count
    }
    if not both:
        return None
    best = max(sorted(both), key=lambda noun: both[noun] * (1.5 if noun in words[:40] else 1.0))
    forms = {best, plural(best)}
    kept = forms & set(words[:70]) and forms & set(words[-len(words) // 3 :])
    return best if both[best] >= 3 and kept else None


def names_of(text: str) -> tuple[str, ...]:
    """Capitalised words inside sentences that come at least twice, the most frequent first."""
    count = collections.Counter(_CAPITAL.findall(text))
    return tuple(
        name for name, times in count.most_common(4) if times >= 2 and name not in ("Mom", "Dad", "Mommy", "Daddy")
    )


def repeats_itself(text: str) -> bool:
    """Has a sentence of four words or more twice."""
    long = [one.lower() for one in sentences(text) if len(one.split()) >= 4]
    return len(set(long)) < len(long)


def read_stories(texts: Iterable[str], rarest: int = 2500) -> list[Story]:
    """With topics, names and words; words are neither the commonest nor those beyond rank `rarest`."""
    texts = list(texts)
    count = collections.Counter(word for text in texts for word in re.findall(r"\b[a-z]{3,10}\b", text))
    rank = {word: place for place, (word, _) in enumerate(count.most_common())}
    common = set(_COMMON)

    def words_of(text: str) -> tuple[str, ...]:
        found = sorted(set(re.findall(r"(?<![A-Z'])\b[a-z]{3,10}\b(?!')", text)))
        return tuple(word for word in found if 60 < rank.get(word, 1 << 30) < rarest and word not in common)

    return [Story(text, topic_of(text), names_of(text), words_of(text)) for text in texts]


def read_records(path: Path) -> list[dict[str, str]]:
    """Lines of `train.jsonl.xz` (or a .jsonl), each with src and text.

    Raises:
        ValueError: when it has others.
    """
    data = path.read_bytes()
    try:
        text = (lzma.decompress(data) if path.suffix == ".xz" else data).decode("utf-8")
        records: list[dict[str, str]] = [json.loads(line) for line in text.splitlines()]
    except (ValueError, lzma.LZMAError) as error:
        raise ValueError(f"{path} has no lines of JSON: {error}") from error
    if not all(isinstance(record, dict) and isinstance(record.get("text"), str) for record in records):
        raise ValueError(f'{path} has lines without a "text"')
    return records


def load_training(paths: Sequence[Path]) -> list[str]:
    """Texts of files of records whose source allows it, each once, without those that repeat a sentence.

    Raises:
        ValueError: when none of the lines is of such a source.
    """
    records = [record for path in paths for record in read_records(path)]
    texts = dict.fromkeys(str(record["text"]).strip() for record in records if record.get("src") in SOURCES)
    if not texts:
        raise ValueError(f"{', '.join(map(str, paths))}: no story of the sources {', '.join(SOURCES)}")
    return [text for text in texts if not repeats_itself(text)]


def swap(text: str, exchange: dict[str, str]) -> str:
    """A text with whole words exchanged, in either case; all at once, so that two can trade places."""
    if not exchange:
        return text
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, sorted(exchange, key=len, reverse=True))) + r")\b")
    return pattern.sub(lambda found: exchange[found[1]], text)


def exchange_topic(old: str, new: str) -> dict[str, str]:
    """What to exchange in a story about `old` so that it is about `new`: both numbers, with capitals and articles."""
    pairs = {old: new, plural(old): plural(new)} if plural(old) != old else {old: new}
    both = {**pairs, **{a.capitalize(): b.capitalize() for a, b in pairs.items()}}
    for capital in (False, True):
        before, after = with_article(old), with_article(new)
        both[before.capitalize() if capital else before] = after.capitalize() if capital else after
    return both


class Names:
    """Names of the collection by the pronoun that goes with them, drawn as often as they occur there."""

    def __init__(self, stories: Iterable[Story]) -> None:
        self._counts: dict[str, collections.Counter[str]] = {"he": collections.Counter(), "she": collections.Counter()}
        for story in stories:
            if (kind := self.kind(story)) and story.names:
                self._counts[kind][story.names[0]] += 1
        for kind, other in (("he", "she"), ("she", "he")):
            mine, theirs = self._counts[kind], self._counts[other]
            kept = {name: times for name, times in mine.items() if times >= 3 and times > 2 * theirs[name]}
            self._counts[kind] = collections.Counter(kept)

    @staticmethod
    def kind(story: Story) -> str | None:
        """he or she, where one of them clearly prevails."""
        he, she = (len(re.findall(rf"\b{word}\b", story.text, re.IGNORECASE)) for word in ("he", "she"))
        return "he" if he > 2 * she + 1 else "she" if she > 2 * he + 1 else None

    def draw(self, rng: random.Random, kind: str | None = None) -> str:
        """A name."""
        count = self._counts[kind or rng.choice(("he", "she"))] or collections.Counter(["Sam"])
        return rng.choices(list(count), list(count.values()))[0]

    def renamed(self, story: Story, rng: random.Random) -> Story:
        """The same story whose first person has another name of the same kind."""
        kind = self.kind(story)
        if not kind or not story.names or story.names[0] not in self._counts[kind]:
            return story
        old, new = story.names[0], self.draw(rng, kind)
        if new in story.text:
            return story
        names = (new, *story.names[1:])
        return Story(swap(story.text, {old: new}), story.topic, names, story.words)
