"""How much clients may hold of a server, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Numbers, seconds and bytes.

    Attributes:
        connections: that are open at a time; requests of others are answered with a 503.
        headers: from the first byte of a request, or from the beginning of a connection, to its last header.
        body: from there to the end of the body.
        stalled: for which a client may read nothing of what waits for it.
        linger: for which the rest of a body is dropped whose request is answered already.
        largest: one body.
        values: commas, colons and opening brackets in one body.
        bodies: memory of all bodies of requests that are not answered yet, see `weight`.
    """

    connections: int = 512
    headers: float = 20.0
    body: float = 60.0
    stalled: float = 60.0
    linger: float = 2.0
    largest: int = 4 * _MIB
    values: int = 1 << 16
    bodies: int = 32 * _MIB


DEFAULT = Limits()


def weight(size: int, values: int) -> int:
    """Bytes that a body takes while it is answered: as it came and in copies, and what Python makes of its values."""
    return 4 * size + 200 * values
