"""Which conversations are private: what was once said in private stays so when the conversation goes on."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence

from edgemoe.routing.messages import Message, text_of


class PrivateConversations:
    """Remembers private conversations by digests of their turns, up to each answer; never their text.

    A later request whose messages begin with such a conversation is private, too. System messages and spaces make no
    difference. A single message makes no conversation: the same words may be asked openly elsewhere.
    """

    def __init__(self) -> None:
        self._digests: set[bytes] = set()
        self._lock = threading.Lock()

    def add(self, messages: Sequence[Message], answer: str) -> None:
        """A private conversation and the answer to it."""
        answered = [*messages, {"role": "assistant", "content": answer}]
        with self._lock:
            self._digests.add(_digests(answered)[-1])

    def continues(self, messages: Sequence[Message]) -> bool:
        """Whether `messages` begin with a private conversation."""
        return not self._digests.isdisjoint(_digests(messages))


def _digests(messages: Sequence[Message]) -> list[bytes]:
    """One for each answer: of all that was said up to it."""
    running = hashlib.blake2b(digest_size=16)
    found = []
    for message in messages:
        role = str(message.get("role"))
        if role in ("system", "developer"):
            continue
        said = " ".join(text_of(message).split()).encode("utf-8", "surrogatepass")
        running.update(b"%s %d " % (role.encode(), len(said)) + said)
        if role == "assistant":
            found.append(running.digest())
    return found
