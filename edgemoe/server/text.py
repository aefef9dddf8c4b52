"""Bytes of tokens become text: whole characters only, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Text as it may be shown. `stop` is the stop string that ended it, if one did; nothing may come after that."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stop: str | None = None
        self.shown = 0
        """Characters that were given out."""
        self.seen = 0
        """Characters that came, held ones included."""

    def feed(self, data: bytes) -> str:
        """What may be shown now."""
        text = self._decoder.decode(data)
        self.seen += len(text)
        self._held += text
        found = [(place, stop) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            place, self.stop = min(found)
            return self._show(place, rest="")
        return self._show(len(self._held) - self._beginning())

    def end(self) -> str:
        """What was held back because it might have become a stop string."""
        return self._show(len(self._held))

    def _show(self, count: int, rest: str | None = None) -> str:
        text, self._held = self._held[:count], self._held[count:] if rest is None else rest
        self.shown += len(text)
        return text

    def _beginning(self) -> int:
        """Length of the longest end of what is held that a stop string begins with."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
