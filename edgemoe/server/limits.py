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
        bodies: all bodies of requests that are not answered yet; not less than `largest`.
    """

    connections: int = 512
    headers: float = 20.0
    body: float = 60.0
    stalled: float = 60.0
    linger: float = 2.0
    largest: int = 8 * _MIB
    bodies: int = 16 * _MIB


DEFAULT = Limits()

BODIES_IN_MEMORY = 2 * DEFAULT.bodies
"""Bytes that a loaded model leaves to bodies, as they came and as they were read."""
