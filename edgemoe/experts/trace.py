"""Recorded routing: which experts each batch used, layer by layer.

A trace is a stream of msgpack objects: a header `{"format": "edgemoe-trace", "version": 2, "model": name,
"groups": [[name, experts, bytes of one expert], ...]}`, then one list `[group, tokens, experts, rows, hotness]` for
each group of each batch, in the order of execution; `rows[i]` of the batch's rows went to expert `experts[i]`, and the
squares of their router weights add up to `hotness[i]`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from edgemoe.errors import ModelError, ReadError

_FORMAT = "edgemoe-trace"
_VERSION = 2

Event = tuple[int, int, list[int], list[int], list[float]]


class TraceWriter:
    """Writes a trace as it happens."""

    def __init__(self, path: Path) -> None:
        """Raises ReadError when `path` cannot be written."""
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise ReadError(f"cannot write the trace {path}: {error.strerror}") from error

    def begin(self, model: str, groups: Iterable[tuple[str, int, int]]) -> None:
        header = {"format": _FORMAT, "version": _VERSION, "model": model, "groups": [list(g) for g in groups]}
        self._file.write(msgpack.packb(header))

    def write(self, events: Iterable[Event]) -> None:
        for event in events:
            self._file.write(msgpack.packb(list(event)))

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Trace:
    """A recorded trace. `groups` are (name, experts, bytes of one expert)."""

    model: str
    groups: list[tuple[str, int, int]]
    events: list[Event]

    @property
    def tokens(self) -> int:
        return sum(tokens for group, tokens, *_ in self.events if group == 0)


def read_trace(path: str | Path) -> Trace:
    """Raises ModelError for a file that is no trace; an event cut short at the end is left out."""
    try:
        with Path(path).open("rb") as file:
            objects: list[Any] = list(msgpack.Unpacker(file, raw=False))
    except OSError as error:
        raise ReadError(f"cannot read the trace {path}: {error.strerror}") from error
    except (ValueError, msgpack.UnpackException) as error:
        raise ModelError(f"{path} is no trace: {error}") from error
    if not objects or not isinstance(objects[0], dict) or objects[0].get("format") != _FORMAT:
        raise ModelError(f"{path} is no trace: record one with --trace")
    header = objects[0]
    if header.get("version") != _VERSION:
        raise ModelError(f"{path} is a trace of version {header.get('version')}; this program reads {_VERSION}")
    try:
        groups = [(str(name), int(experts), int(size)) for name, experts, size in header["groups"]]
        trace = Trace(str(header["model"]), groups, [_event(item, groups) for item in objects[1:]])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(f"{path} is a damaged trace: {error!r}") from error
    return trace


def _event(item: Any, groups: list[tuple[str, int, int]]) -> Event:
    """`item` checked: whoever replays it indexes tables with what it holds."""
    group, tokens, experts, rows, hotness = item
    numbers = [group, tokens, *experts, *rows]
    if not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise ValueError(f"an event holds something else than counts: {item!r}")
    if not len(experts) == len(rows) == len(hotness):
        raise ValueError(f"an event has {len(experts)} experts, {len(rows)} counts of rows, {len(hotness)} of hotness")
    if not all(isinstance(h, float) and 0 <= h < math.inf for h in hotness):
        raise ValueError(f"an event has a hotness that is none: {hotness!r}")
    if max(experts, default=0) >= groups[group][1]:
        raise ValueError(f"expert {max(experts)} is not among the {groups[group][1]} of layer {groups[group][0]}")
    return group, tokens, list(experts), list(rows), list(hotness)
