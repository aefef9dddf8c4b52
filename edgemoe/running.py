"""Who runs models on this machine now: each process that has some open keeps one small file in the runtime folder."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from edgemoe import machine
from edgemoe.errors import WriteError
from edgemoe.files import replace_file, state_folder
from edgemoe.processes import find_process, this_process
from edgemoe.sizes import format_size

_SUFFIX = ".json"
_LARGEST = 1 << 20
"""Bytes of a file that is looked at."""

_lock = threading.RLock()
_numbers = itertools.count(1)
_announced: dict[int, dict[str, Any]] = {}
"""What this process has announced, by number."""


@dataclass(frozen=True)
class Running:
    """One open model. `memory` is the resident set of its process now, in bytes; `since` in seconds since 1970."""

    pid: int
    command: str
    memory: int
    since: float
    facts: Mapping[str, Any]
    """As they were announced."""

    @property
    def model(self) -> str:
        """Its name."""
        return str(self.facts.get("model") or "-")

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files."""
        found = self.facts.get("paths")
        return tuple(Path(str(path)) for path in found) if isinstance(found, list) else ()

    @property
    def budget(self) -> int | None:
        """Bytes that the process may use; None for no limit."""
        return _number(self.facts.get("budget"))

    @property
    def follows(self) -> bool:
        """Whether the budget follows what the machine has left, and so gives way."""
        return bool(self.facts.get("follows"))

    @property
    def bits(self) -> float:
        """Mean bits of the expert weights used so far; 0 before the first."""
        bits = self.facts.get("bits")
        return float(bits) if isinstance(bits, (int, float)) else 0.0


class Announcement:
    """One line of `running()`, for as long as it is not ended. Nothing it does raises: a folder that cannot be written
    only means that nobody is told."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._number = next(_numbers)
        with _lock:
            _announced[self._number] = {"since": time.time(), **facts}
            _publish()

    def update(self, **facts: Any) -> None:
        """Changes facts; writes the file when one is new. Not for hot paths."""
        with _lock:
            known = _announced.get(self._number)
            if known is None or known.items() >= facts.items():
                return
            known |= facts
            _publish()

    def end(self) -> None:
        """Takes the line away."""
        with _lock:
            if _announced.pop(self._number, None) is not None:
                _publish()

    def __enter__(self) -> Announcement:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def announce(**facts: Any) -> Announcement:
    """Tells other processes what this one runs.

    Args:
        **facts: JSON values. `ps` knows `model` (a name), `paths` (texts), `budget` (bytes or None), `follows` (the
            budget follows the machine's memory), `bits` (per weight).
    """
    return Announcement(facts)


def running() -> list[Running]:
    """What is announced now, oldest first, by processes that are alive; files of dead ones are removed."""
    found: list[Running] = []
    for file in _files():
        content = _content(file)
        process = find_process(content["pid"], content["started"]) if content else None
        if content is None or process is None:
            _remove_stale(file)
            continue
        with contextlib.suppress(psutil.Error):
            command, memory = " ".join(process.cmdline()), process.memory_info().rss
            for facts in content["models"]:
                found.append(Running(process.pid, command, memory, float(facts["since"]), facts))
    return sorted(found, key=lambda one: (one.since, one.pid))


def crowding(budget: int | None, name: str) -> str | None:
    """What to tell who opens `name` with `budget`, if that and the budgets of other processes exceed the memory.

    A budget that follows the machine's memory counts with what its process holds.
    """
    if budget is None:
        return None
    others: dict[int, tuple[int, Running]] = {}
    for one in running():
        counted = one.memory if one.follows or one.budget is None else max(one.budget, one.memory)
        if one.pid != os.getpid() and counted > others.get(one.pid, (0, one))[0]:
            others[one.pid] = counted, one
    total = machine.total_memory()
    if not others or budget + sum(counted for counted, _ in others.values()) <= total:
        return None
    named = ", ".join(f"process {pid} ({one.model}) {format_size(size)}" for pid, (size, one) in others.items())
    return (
        f"more memory is promised than the machine's {format_size(total)}: {name} may use {format_size(budget)}, "
        f"{named}. Give them smaller budgets, or end one, or the system will swap or kill"
    )


def runtime_folder() -> Path:
    """Where the files are: in XDG_RUNTIME_DIR, or in the state folder where there is none."""
    if home := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(home) / "edgemoe"
    return state_folder() / "run"


# The file of this process


def _publish() -> None:
    """Writes what this process announces, or removes its file."""
    with contextlib.suppress(WriteError, OSError, RuntimeError, psutil.Error, TypeError, ValueError):
        file = runtime_folder() / f"{os.getpid()}{_SUFFIX}"
        if not _announced:
            file.unlink(missing_ok=True)
            return
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        pid, started = this_process()
        content = {"pid": pid, "started": started, "models": list(_announced.values())}
        replace_file(file, json.dumps(content, default=str).encode(), durable=False)


@atexit.register
def _end_all() -> None:
    with _lock:
        if _announced:
            _announced.clear()
            _publish()


def _in_a_child() -> None:
    """After a fork: the models are the parent's."""
    global _lock
    _lock = threading.RLock()
    _announced.clear()


os.register_at_fork(after_in_child=_in_a_child)


# The files of others


def _files() -> Iterator[Path]:
    try:
        yield from sorted(file for file in runtime_folder().iterdir() if file.suffix == _SUFFIX)
    except (OSError, RuntimeError):  # there is none, or no home for one
        return


def _content(file: Path) -> dict[str, Any] | None:
    """None for what is no such file."""
    try:
        with file.open("rb") as opened:
            content = json.loads(opened.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or file.stem != str(_number(content.get("pid"))):
        return None
    models = content.get("models")
    complete = isinstance(models, list) and all(
        isinstance(facts, dict) and isinstance(facts.get("since"), (int, float)) for facts in models
    )
    return content if complete and isinstance(content.get("started"), (int, float)) else None


def _remove_stale(file: Path) -> None:
    """Only what has the name of such a file."""
    if file.stem.isdigit():
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
