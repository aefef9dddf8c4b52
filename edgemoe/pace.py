"""How many threads compute: fewer where the machine has slowed down and fewer are faster. Pure: it reads no clock."""

from __future__ import annotations

from statistics import median

WINDOW = 16
"""Tokens whose median time is compared: a single slow one says nothing."""
SLOWER = 1.3
"""Times the fastest median seen with as many threads from which on the machine counts as slowed down."""
BETTER = 0.92
"""Times the median before, at the most, for which another number of threads is kept."""
REST = 256
"""Tokens without a trial after one; doubled by each one that was in vain, up to LONGEST_REST."""
LONGEST_REST = 4096


class Pace:
    """How many threads are to compute the next token, from the times of those before.

    There are only trials of one thread fewer, once tokens have become slower, and of one more, after a rest, when there
    are fewer than at the start. A trial lasts a window, and what it tried stays only when it was faster by a margin;
    otherwise it is back as it was, and the next trial comes twice as late, as it does after one that took back an
    earlier one. So load that comes and goes changes the number of threads ever more rarely.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        """To compute with now."""
        self._most = threads
        self._times: list[float] = []
        self._fastest: dict[int, float] = {}
        self._before: tuple[int, float] | None = None  # threads and median before the trial that goes on
        self._rest = REST
        self._resting = 0
        self._going = False  # the trial that goes on follows one that stayed
        self._kept = 0  # by how many threads the last trial that stayed changed them

    def told(self, seconds: float) -> int:
        """After a token that computed for `seconds`, waiting for the disk left out; returns `threads`."""
        if self._most > 1:
            self._times.append(seconds)
            self._resting = max(0, self._resting - 1)
            if len(self._times) == WINDOW:
                now = median(self._times)
                self._times.clear()
                self._judge(now)
        return self.threads

    def _judge(self, now: float) -> None:
        if self._before is not None:
            self._end_trial(now, *self._before)
            return
        fastest = self._fastest[self.threads] = min(now, self._fastest.get(self.threads, now))
        if self._resting:
            return
        if now > SLOWER * fastest and self.threads > 1:
            self._begin_trial(now, self.threads - 1)
        elif self.threads < self._most:
            self._begin_trial(now, self.threads + 1)

    def _begin_trial(self, now: float, threads: int) -> None:
        self._before = self.threads, now
        self.threads = threads

    def _end_trial(self, now: float, threads: int, before: float) -> None:
        self._before = None
        step = self.threads - threads
        if now > BETTER * before:
            self.threads = threads
            self._fastest[threads] = min(before, now)  # this is how fast it is now
            self._wait(longer=not self._going)
            return
        self._fastest[self.threads] = now  # what it was when the machine was another says nothing
        if self._kept == -step:
            self._rest = min(2 * self._rest, LONGEST_REST)
        self._kept = step
        if 1 <= self.threads + step <= self._most:
            self._begin_trial(now, self.threads + step)
            self._going = True
        else:
            self._wait(longer=False)

    def _wait(self, *, longer: bool) -> None:
        if longer:
            self._rest = min(2 * self._rest, LONGEST_REST)
        self._resting = self._rest
        self._going = False
