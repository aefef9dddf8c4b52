"""How many threads compute: fewer where the machine has slowed down and fewer are faster. Pure: it reads no clock."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import median

WINDOW = 16
"""Tokens whose median time is compared: a single slow one says nothing."""
SLOWER = 1.3
"""Times the fastest median seen with as many threads from which on the machine counts as slowed down."""
BETTER = 0.92
"""Times the median before, at the most, for which fewer threads are kept."""
REST = 256
"""Tokens without a search after one; doubled by each one that was in vain, up to LONGEST_REST."""
LONGEST_REST = 4096
LONGEST_FEWER = 1024
"""Tokens after which more threads are tried at the latest: to stay with too few costs more than one trial."""


class Pace:
    """How many threads are to compute the next token, from the times of those before.

    Fewer are searched for once tokens have become slower, and more, after a rest, when there are fewer than at the
    start. A search is a few trials of a window each; what it found stays only when it was faster by a margin, otherwise
    all is as it was, and the next search comes twice as late, as it does after one that took back an earlier one. So
    load that comes and goes changes the number of threads ever more rarely. More threads come back sooner than fewer.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        """To compute with now."""
        self._most = threads
        self._times: list[float] = []
        self._fastest: dict[int, float] = {}
        self._search: _Search | None = None
        self._rest = REST
        self._rested = REST
        self._fewer: bool | None = None  # whether the last search that found something found fewer

    def told(self, seconds: float) -> int:
        """After a token that computed for `seconds`, waiting for the disk left out; returns `threads`."""
        if self._most > 1:
            self._times.append(seconds)
            self._rested += 1
            if len(self._times) == WINDOW:
                now = median(self._times)
                self._times.clear()
                self._judge(now)
        return self.threads

    def _judge(self, now: float) -> None:
        if self._search is None:
            self._search = self._new_search(now)
        else:
            self._search.tried(self.threads, now)
        if self._search is None:
            return
        following = self._search.following()
        if following is None:
            self._end(self._search)
        else:
            self.threads = following

    def _new_search(self, now: float) -> _Search | None:
        threads = self.threads
        fastest = self._fastest[threads] = min(now, self._fastest.get(threads, now))
        if now > SLOWER * fastest and threads > 1 and self._rested >= self._rest:
            # With fewer than the lowest, even cores of their own would give no more than there is now.
            lowest = max(1, int(threads * fastest / now))
            return _Search(threads, now, min(lowest, threads - 1), threads - 1, threads * sqrt(fastest * now))
        if threads < self._most and self._rested >= min(self._rest, LONGEST_FEWER):
            return _Search(threads, now, threads + 1, self._most)
        return None

    def _end(self, search: _Search) -> None:
        self._search = None
        self.threads = search.best
        self._fastest[search.best] = search.time  # what it was when the machine was another says nothing
        fewer = search.best < search.start if search.best != search.start else None
        if fewer is None or self._fewer is (not fewer):
            self._rest = min(2 * self._rest, LONGEST_REST)
        self._fewer = self._fewer if fewer is None else fewer
        self._rested = 0


@dataclass
class _Search:
    """For the number of threads from `low` to `high`, all below or all above `start`, that is fastest.

    Where others take cores, threads that share one hold up all the rest: times fall with more threads, and leap where
    the first two share a core. So one fewer may be slower still, although half of them would be much faster. Time times
    threads tells on which side of the leap a trial was. The first trial is of one fewer or one more, the next ones
    halve what is left.
    """

    start: int
    before: float
    """Seconds with `start` threads."""
    low: int
    high: int
    shared: float = 0.0
    """Threads times seconds above which some of fewer threads share a core."""

    def __post_init__(self) -> None:
        self.best, self.time = self.start, self.before
        self._first: int | None = self.start - 1 if self.high < self.start else self.start + 1

    def following(self) -> int | None:
        """What to try now; None at the end."""
        if self._first is not None:
            return self._first
        return (self.low + self.high + 1) // 2 if self.low <= self.high else None

    def tried(self, threads: int, seconds: float) -> None:
        self._first = None
        better = seconds <= self._needed(threads)
        if better:
            self.best, self.time = threads, seconds
        if threads * seconds > self.shared if threads < self.start else not better:
            self.high = threads - 1
        else:
            self.low = threads + 1

    def _needed(self, threads: int) -> float:
        """Seconds at the most: of more threads, at least half of what they could save, where that is less."""
        if threads < self.start:
            return min(self.time, BETTER * self.before)
        return self.time * max(BETTER, (1 + self.best / threads) / 2)
