"""What feedback has taught, and its file: msgpack with a version and a checksum, replaced as a whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import xxhash

from edgemoe.errors import ReadError
from edgemoe.files import locked, reason, replace_file
from edgemoe.routing.regression import Regression, Vector

SIZE = 33
"""Of an embedding: a constant, and 32 sums of the router's units."""
WINDOW = 256
"""Prompts by which the price is set."""

_FORMAT = 1


@dataclass(frozen=True)
class Seen:
    """A prompt that was decided: its embedding, priors and costs by route, and what was spent."""

    x: Vector
    priors: Mapping[str, float]
    costs: Mapping[str, float]
    spent: float
    allowed: float


@dataclass(frozen=True)
class Rated:
    """A route's answer to x was better than its prior by `surprise`."""

    x: Vector
    route: str
    surprise: float


@dataclass
class Knowledge:
    """Everything that is kept; `mean` and `scale` are of the router's units."""

    mean: Vector
    scale: Vector
    regression: Regression = field(default_factory=lambda: Regression(SIZE))
    window: deque[Seen] = field(default_factory=lambda: deque(maxlen=WINDOW))
    balance: float = 0.0
    """What the budget allowed, without what was spent."""

    def apply(self, event: Seen | Rated) -> None:
        """Adds what happened; the order does not matter but for the window."""
        if isinstance(event, Rated):
            self.regression.add(event.x, event.route, event.surprise)
        else:
            self.window.append(event)
            self.balance += event.allowed - event.spent


def read_state(path: Path, router: str) -> Knowledge | None:
    """What was written; None where nothing was.

    Raises:
        ReadError: when the file cannot be read, is damaged, of another version, or made with another router.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReadError(f"what feedback taught, {path}, cannot be read: {reason(path, error)}") from error
    try:
        outer = msgpack.unpackb(data)
        version, body = outer["format"], outer["state"]
        whole = outer["checksum"] == xxhash.xxh3_128_hexdigest(body)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException):
        version, whole = _FORMAT, False
    if not whole:
        raise ReadError(f"what feedback taught, {path}, is damaged: reset it, or move it away")
    if version != _FORMAT:
        raise ReadError(f"what feedback taught, {path}, has format {version!r}, not {_FORMAT}: reset it")
    state = msgpack.unpackb(body)
    if state["router"] != router:
        raise ReadError(f"what feedback taught, {path}, belongs to another router: reset it, or use that router")
    return _unpacked(state)


def write_state(path: Path, knowledge: Knowledge, router: str) -> None:
    """Whoever writes holds the file's lock since it was read.

    Raises:
        WriteError: when it cannot be written; what was there stays.
    """
    body = msgpack.packb(_packed(knowledge, router))
    outer = {"format": _FORMAT, "checksum": xxhash.xxh3_128_hexdigest(body), "state": body}
    replace_file(path, msgpack.packb(outer))


def forget(path: Path) -> None:
    """Removes the file, whatever is in it."""
    with locked(path):
        path.unlink(missing_ok=True)


def _packed(knowledge: Knowledge, router: str) -> dict[str, Any]:
    found = knowledge.regression
    return {
        "router": router,
        "mean": knowledge.mean.tobytes(),
        "scale": knowledge.scale.tobytes(),
        "routes": found.routes,
        "precision": found.precision[np.triu_indices(len(found.moment))].tobytes(),
        "moment": found.moment.tobytes(),
        "count": found.count,
        "balance": knowledge.balance,
        "window": [[s.x.astype(np.float32).tobytes(), s.priors, s.costs] for s in knowledge.window],
    }


def _unpacked(state: Mapping[str, Any]) -> Knowledge:
    found = Regression(SIZE)
    found.routes, found.count, found.moment = state["routes"], state["count"], np.frombuffer(state["moment"]).copy()
    upper = np.zeros((len(found.moment), len(found.moment)))
    upper[np.triu_indices(len(found.moment))] = np.frombuffer(state["precision"])
    found.precision = upper + np.triu(upper, 1).T
    knowledge = Knowledge(np.frombuffer(state["mean"]), np.frombuffer(state["scale"]), found)
    for x, priors, costs in state["window"]:
        knowledge.window.append(Seen(np.frombuffer(x, np.float32).astype(np.float64), priors, costs, 0.0, 0.0))
    knowledge.balance = state["balance"]
    return knowledge
