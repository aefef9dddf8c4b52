"""How much of a story others have, by runs of words."""

from __future__ import annotations

import collections
import re

_MOST = 50  # stories that one run of words is followed to


def words_of(text: str) -> str:
    """A text in small letters without marks."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def runs(words: str, length: int = 8) -> set[tuple[str, ...]]:
    """All runs of `length` words."""
    single = words.split()
    return {tuple(single[i : i + length]) for i in range(len(single) - length + 1)}


class Known:
    """Stories by their runs of eight words."""

    def __init__(self) -> None:
        self._where: collections.defaultdict[int, list[int]] = collections.defaultdict(list)
        self._count = 0

    def add(self, found: set[tuple[str, ...]]) -> None:
        """One more story."""
        for run in found:
            self._where[hash(run)].append(self._count)
        self._count += 1

    def shares(self, found: set[tuple[str, ...]]) -> tuple[float, float]:
        """Of a story's runs: the largest part that one known story has, and the part that any has."""
        if not found:
            return 1.0, 1.0
        count: collections.Counter[int] = collections.Counter()
        anywhere = 0
        for run in found:
            places = self._where.get(hash(run), [])
            anywhere += bool(places)
            count.update(places[:_MOST])
        return max(count.values(), default=0) / len(found), anywhere / len(found)


class HeldOut:
    """Texts that nothing to train on may come near to."""

    def __init__(self, texts: list[str]) -> None:
        self._known = Known()
        self._long: set[tuple[str, ...]] = set()
        self._beginnings: set[str] = set()
        for words in map(words_of, texts):
            self._known.add(runs(words))
            self._long |= runs(words, 16)
            self._beginnings.add(words[:60])

    def near(self, words: str) -> bool:
        """Shares 16 words in a row with them, a tenth of its runs with one, or a fifth with all of them."""
        one, anywhere = self._known.shares(runs(words))
        return one > 0.10 or anywhere > 0.20 or bool(runs(words, 16) & self._long)

    def begins_alike(self, words: str) -> bool:
        """As one of them does: nearly always with one of the usual first sentences."""
        return words[:60] in self._beginnings

    def is_far(self, words: str) -> bool:
        """Has hardly anything in common with any of them."""
        return self._known.shares(runs(words))[0] <= 0.05
