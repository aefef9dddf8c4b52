"""Which replica a prompt belongs to: the one that has evaluated its beginning."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import xxhash

_BLOCK = 512
"""Bytes after which the beginning of a long message counts by itself."""
_MOST = 64
"""Beginnings of one prompt that are kept: the first, and the longest ones."""
_REMEMBERED = 100_000

Beginnings = tuple[int, ...]
"""Hashes of ever longer beginnings of a prompt, the whole of it last."""


def beginnings(body: bytes) -> Beginnings:
    """Of a request in OpenAI's, Anthropic's or ollama's words; empty where the body has no prompt."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(asked, dict):
        return ()
    found = list(_hashes(asked))
    return tuple(found if len(found) <= _MOST else [found[0], *found[1 - _MOST :]])


def _hashes(asked: dict[str, Any]) -> Iterator[int]:
    parts = asked.get("messages") or asked.get("prompt") or asked.get("input")
    if not parts:
        return
    digest = xxhash.xxh3_64(_text([asked.get("model"), asked.get("tools")]))
    if asked.get("system"):
        parts = [asked["system"], *(parts if isinstance(parts, list) else [parts])]
    for part in parts if isinstance(parts, list) and not isinstance(parts[0], int) else [parts]:
        text = _text(part)
        for start in range(0, len(text), _BLOCK):
            digest.update(text[start : start + _BLOCK])
            yield digest.intdigest()


def _text(part: Any) -> bytes:
    """A text has no quotation marks, so that its continuation begins with it."""
    text = part if isinstance(part, str) else json.dumps(part, sort_keys=True)
    return text.encode("utf-8", "surrogatepass")


class Affinity:
    """Remembers where beginnings went. Others go where a hash says: gateways agree that know nothing of each other.

    The hash is rendezvous hashing (Thaler and Ravishankar, 1996): when a replica goes, only its own prompts move.
    """

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._remembered = remembered
        self._went: OrderedDict[int, str] = OrderedDict()

    def order(self, prompt: Beginnings, replicas: Sequence[str]) -> list[str]:
        """`replicas`, the one first that should answer; when it is busy or gone, the next one.

        That is the replica that answered the longest beginning of `prompt`; then as the hash of the shortest one says.
        """
        if not prompt:
            return list(replicas)
        ranked = sorted(replicas, key=lambda name: xxhash.xxh3_64_intdigest(name.encode(), seed=prompt[0]))
        known = (self._went.get(beginning) for beginning in reversed(prompt))
        first = next((name for name in known if name in ranked), None)
        return ranked if first is None else [first, *(name for name in ranked if name != first)]

    def remember(self, prompt: Beginnings, replica: str) -> None:
        """`replica` evaluates `prompt`."""
        for beginning in prompt:
            self._went[beginning] = replica
            self._went.move_to_end(beginning)
        while len(self._went) > self._remembered:
            self._went.popitem(last=False)
