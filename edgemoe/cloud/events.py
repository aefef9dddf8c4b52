"""Server-sent events, as in the HTML standard, section 9.2, but strict: what is not in it is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator

LARGEST = 1 << 20
"""Bytes of one line, and characters of one event."""

_END = re.compile(rb"[\r\n]")
_FIELDS = ("data", "event", "id", "retry")


class EventError(ValueError):
    """What came is no event stream; `line` is what came, where it was a line."""

    def __init__(self, message: str, line: bytes = b"") -> None:
        super().__init__(message)
        self.line = line


class EventParser:
    """Turns bytes, however they are cut, into the data of events."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._data: list[str] = []
        self._size = 0
        self._after_return = False  # a newline that comes next belongs to the line before
        self._begun = False

    def feed(self, data: bytes) -> Iterator[str]:
        """The data of each event that ends in `data`.

        Raises:
            EventError: for a line that no event stream has, or one of more than `LARGEST` bytes.
        """
        searched = len(self._buffer)
        self._buffer += data
        while match := _END.search(self._buffer, searched):
            searched = 0
            end, mark = match.start(), match.group()
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            belongs = mark == b"\n" and self._after_return and not line
            self._after_return = mark == b"\r"
            if not belongs and (event := self._line(line)) is not None:
                yield event
        if len(self._buffer) > LARGEST:
            raise EventError(f"a line of more than {LARGEST} bytes")

    def _line(self, line: bytes) -> str | None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            return self._event()
        if line.startswith(b":"):  # a comment keeps connections alive
            return None
        try:
            field, _, value = line.decode("utf-8").partition(":")
        except UnicodeDecodeError:
            raise EventError("a line that is not UTF-8", line) from None
        if field not in _FIELDS:
            raise EventError("a line that is no event's", line)
        if field == "data":
            self._data.append(value.removeprefix(" "))
            self._size += len(value) + 1
            if self._size > LARGEST:
                raise EventError(f"an event of more than {LARGEST} characters")
        return None

    def _event(self) -> str | None:
        lines, self._data, self._size = self._data, [], 0
        return "\n".join(lines) if lines else None
