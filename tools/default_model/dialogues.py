"""Conversations made of stories: a request that the story answers, and what may follow it."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from dataclasses import dataclass, field

from default_model import phrases
from default_model.stories import (
    ANIMALS,
    THINGS,
    Names,
    Story,
    exchange_topic,
    form_of,
    sentences,
    swap,
    with_article,
)


@dataclass
class Turn:
    """A request and its answer; `wanted` are words that the answer was asked to use."""

    request: str
    answer: str
    wanted: tuple[str, ...] = ()


@dataclass
class Dialogue:
    """Turns, with what the system message says, if there is one."""

    turns: list[Turn]
    system: str | None = None
    plain: bool = field(default=False)  # no conversation: the first turn's answer alone, as in a book


class Writer:
    """Draws dialogues about stories; the same generator gives the same ones."""

    def __init__(self, stories: list[Story], rng: random.Random) -> None:
        self.stories = stories
        self._rng = rng
        self._names = Names(stories)
        self._short = [story for story in stories if story.is_short]
        self._about: dict[str, list[Story]] = defaultdict(list)
        for story in stories:
            if story.topic and len(story.text) < 1300:
                self._about[story.topic].append(story)
        self._topics = sorted(self._about)

    def plain(self, story: Story) -> Dialogue:
        """The story alone, half of the time with another name for its first person."""
        story = self._names.renamed(story, self._rng) if self._rng.random() < 0.5 else story
        return Dialogue([Turn("", story.text)], plain=True)

    def draw(self, story: Story) -> Dialogue:
        """A conversation in which the story is told, or small talk."""
        story = self._names.renamed(story, self._rng) if self._rng.random() < 0.6 else story
        chance = self._rng.random()
        if chance < 0.50:
            return Dialogue([self._ask(story)])
        if chance < 0.61 and story.topic and story.is_short:
            return self._shortened(story)
        if chance < 0.79:
            return self._several()
        if chance < 0.91:
            return self._narrated()
        return self._small_talk()

    def _pick(self, section: str) -> str:
        return phrases.draw(section, self._rng)

    def _ask(self, story: Story) -> Turn:
        """One request that this story answers; about another animal or thing than it was, now and then."""
        chance = self._rng.random()
        if chance < 0.52 and len(story.words) >= 8:
            return self._ask_words(story)
        if chance < 0.57:
            return Turn(self._pick("any"), story.text)
        if chance < 0.62 and (turn := self._continue(story)):
            return turn
        if not story.topic:
            return self._ask_words(story) if len(story.words) >= 8 else Turn(self._pick("any"), story.text)
        return self._ask_topic(self._recast(story) if self._rng.random() < 0.4 else story)

    def _ask_topic(self, story: Story) -> Turn:
        topic = story.topic or ""
        named = with_article(topic)
        pattern = rf"\b[Aa]n? ((?:\w+ )?)({topic})(?: (?:named|called) ([A-Z]\w+))?"
        if (found := re.search(pattern, story.text)) and self._rng.random() < 0.5:
            named = with_article((found[1] + topic).lower()) + (f" named {found[3]}" if found[3] else "")
        return Turn(self._pick("ask").format(named), story.text, (topic,))

    def _ask_words(self, story: Story) -> Turn:
        """Three words, or up to eight: the more there are, the more of the story the request tells."""
        words = list(story.words)
        count = min(len(words), self._rng.choice((3, 3, 3, 3, 2, 4, 5, 6, 8)))
        often = [word for word in words if len(re.findall(rf"\b{word}", story.text)) > 1]
        chosen = self._rng.sample(often, min(len(often), self._rng.choice((0, 0, 1, 2))))
        chosen += self._rng.sample([word for word in words if word not in chosen], count - len(chosen))
        self._rng.shuffle(chosen)
        return Turn(self._pick("words").format(self._listed(chosen)), story.text, tuple(chosen))

    def _listed(self, words: list[str]) -> str:
        """With commas, "and", or both."""
        last = self._rng.choice((", ", ", ", " and ", " and ", ", and "))
        return ", ".join(words[:-1]) + last + words[-1]

    def _continue(self, story: Story) -> Turn | None:
        parts = sentences(story.text)
        if len(parts) < 8:
            return None
        cut = self._rng.randint(1, 4)
        begun, rest = " ".join(parts[:cut]), " ".join(parts[cut:])
        return Turn(self._pick("continue").format(begun), rest)

    def _recast(self, story: Story) -> Story:
        """The same story about another animal, or another thing."""
        old = story.topic or ""
        new = self._rng.choice(ANIMALS if old in ANIMALS else THINGS)
        if not old or new == old or re.search(rf"\b{new}", story.text, re.IGNORECASE):
            return story
        return Story(swap(story.text, exchange_topic(old, new)), new, story.names, story.words)

    def _short_about(self, topic: str) -> Story:
        found = self._rng.choice(self._about[topic])
        return self._names.renamed(found, self._rng)

    def _another(self, story: Story) -> Story:
        """A story that was not told; about the same where there is one."""
        others = [one for one in self._about[story.topic or ""] if one.words != story.words]
        return self._rng.choice(others or self._short)

    def _shortened(self, story: Story) -> Dialogue:
        """A story, then its first sentences and its last ones."""
        parts = sentences(story.text.replace("\n", " "))
        if len(parts) < 9:
            return Dialogue([self._ask(story)])
        brief = " ".join(parts[: self._rng.choice((2, 3))] + parts[-self._rng.choice((2, 3)) :])
        told = form_of(story.topic or "").search(brief) and len(brief.split()) < 0.6 * len(story.text.split())
        if not told:
            return Dialogue([self._ask(story)])
        return Dialogue([self._ask_topic(story), Turn(self._pick("shorter"), brief, (story.topic or "",))])

    def _several(self) -> Dialogue:
        """Two to five short stories: another one, about something else, the same about something else."""
        story = self._short_about(self._rng.choice(self._topics))
        turns = [self._ask_topic(story)]
        for _ in range(self._rng.choice((1, 1, 1, 2, 2, 3, 4))):
            chance = self._rng.random()
            if chance < 0.3:
                story = self._another(story)
                turns.append(Turn(self._pick("more"), story.text))
            elif chance < 0.55 and (other := self._recast(story)) != story:
                story = other
                turns.append(
                    Turn(self._pick("change").format(with_article(story.topic or "")), story.text, self._of(story))
                )
            elif chance < 0.9:
                story = self._short_about(self._rng.choice(self._topics))
                turns.append(
                    Turn(self._pick("now").format(with_article(story.topic or "")), story.text, self._of(story))
                )
            else:
                turns.append(self._talk("thanks", "thanks_answer"))
        return Dialogue(turns)

    @staticmethod
    def _of(story: Story) -> tuple[str, ...]:
        return (story.topic,) if story.topic else ()

    def _narrated(self) -> Dialogue:
        """A system message with a name and a hero, which stories and answers keep to."""
        story = self._short_about(self._rng.choice(self._topics))
        story = self._recast(story) if self._rng.random() < 0.5 else story
        topic, name = story.topic or "", self._names.draw(self._rng)
        hero, wanted = with_article(topic), (topic,)
        found = re.search(rf"{topic} (?:named|called) ([A-Z]\w+)", story.text)
        if found or (story.names and self._rng.random() < 0.4):
            called = found[1] if found else story.names[0]
            hero, wanted = (
                (f"a {topic} named {called}" if found else f"{called} and {with_article(topic)}"),
                (topic, called),
            )
        turns = [Turn(self._pick("any"), story.text, wanted)]
        if self._rng.random() < 0.5:
            answer = f"I am {name}. I tell stories about {hero}."
            turns.insert(self._rng.randrange(2), Turn(self._pick("who"), answer, (name, topic)))
        return Dialogue(turns, self._pick("narrator").format(name=name, hero=hero))

    def _talk(self, questions: str, answers: str) -> Turn:
        asked = self._pick(questions).replace("{}", self._rng.choice(phrases.sections()["places"]))
        return Turn(asked, self._pick(answers))

    def _small_talk(self) -> Dialogue:
        kinds = self._rng.choices(
            phrases.TALK, [weight for *_, weight in phrases.TALK], k=self._rng.choice((1, 1, 2, 3))
        )
        turns = [self._talk(questions, answers) for questions, answers, _ in kinds]
        if self._rng.random() < 0.4:
            story = self._short_about(self._rng.choice(self._topics))
            turns.append(Turn(self._pick("yes"), story.text) if "?" in turns[-1].answer else self._ask_topic(story))
        return Dialogue(turns)
