"""How long an answer may be waited for."""

from __future__ import annotations

from edgemoe.cloud.endpoint import Endpoint

_FOR_USAGE = 5.0
"""Seconds for what follows the end of the text."""


class Deadlines:
    """Of one request, in seconds of waiting: time in which nobody waits for the next piece does not count."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._waited = 0.0
        self._first: float | None = None
        self._last = 0.0
        self._characters = 0
        self._finished = False

    def left(self) -> tuple[float, str]:
        """Seconds that the next read may take, and what to say when they have passed."""
        limits = self._endpoint
        if self._first is None:
            first = min(limits.first_token_timeout, limits.total_timeout)
            return first - self._waited, f"no token within {first:g} s"
        stalled = self._last + (_FOR_USAGE if self._finished else limits.stall_timeout)
        choices = [(stalled, f"nothing for {limits.stall_timeout:g} s")]
        choices.append((limits.total_timeout, f"no end within {limits.total_timeout:g} s"))
        if limits.slowest:
            earned = self._first + limits.stall_timeout + self._characters / limits.slowest
            choices.append((earned, f"fewer than {limits.slowest:g} characters a second"))
        end, what = min(choices)
        return end - self._waited, what

    def waited(self, seconds: float) -> None:
        """A read took so long."""
        self._waited += seconds

    def came(self, characters: int, *, finished: bool) -> None:
        """An event was read, with which so many characters have come in all. The first one with text ends the wait for
        it; events without text do not."""
        self._finished = finished
        if characters > self._characters or finished:
            self._characters = characters
            self._last = self._waited
            if self._first is None:
                self._first = self._waited
