"""What an answer of the cloud may cost before it comes, and what it costs while it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgemoe.cloud import Piece, Usage, estimated_usage
from edgemoe.cloud.protocol import BYTES_PER_TOKEN
from edgemoe.config import CloudModel
from edgemoe.conversation import Message
from edgemoe.errors import CloudError

_MOST_TOKENS = 1 << 17  # more than any answer has
_SENT_LIMIT = 1024
"""Tokens up to which a limit that follows from money is sent: servers refuse limits beyond their own. An answer that
goes on beyond a larger one is cut off here."""
_SHARE = 2
"""An answer without a limit reserves half of the money that is left, so that others may be asked meanwhile..."""
_ENOUGH_TOKENS = 4096
"""...or what this many tokens cost, if that is more."""


class Generated:
    """What has come of an answer, in tokens: as many as its bytes suggest, and one at least for each piece."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._prompt = estimated_usage(messages, "").prompt_tokens
        self._bytes = self._pieces = 0

    @property
    def tokens(self) -> int:
        """Of text and of thoughts."""
        return max(self._pieces, -(-self._bytes // BYTES_PER_TOKEN))

    def add(self, piece: Piece) -> None:
        """Counts a piece."""
        came = piece.text + piece.thought
        self._bytes += len(came.encode("utf-8", "surrogatepass"))
        self._pieces += bool(came)

    def cost(self, model: CloudModel) -> float:
        """What it has cost."""
        return model.cost(self._prompt, self.tokens)

    def usage(self) -> Usage:
        """Of an answer that was cut off."""
        return Usage(self._prompt, self.tokens, estimated=True)

    def exceeds(self, model: CloudModel, allowed: float | None) -> bool:
        """Whether it has cost more than is `allowed`."""
        return allowed is not None and self.cost(model) > allowed


def reserve(
    model: CloudModel, messages: Sequence[Message], options: dict[str, Any], left: float | None
) -> tuple[float, float]:
    """The least and the most that an answer may cost; sets `max_tokens` in `options` where little is `left`.

    Raises:
        CloudError: when not one token is paid for.
    """
    prompt, price = model.cost(estimated_usage(messages, "").prompt_tokens, 0), model.endpoint.output_price
    asked = int(options.get("max_tokens") or _MOST_TOKENS)
    if left is not None and prompt + price / 1e6 > left:
        raise CloudError(f"{left:.4g} of the budget is left, the rest is spent or reserved by answers under way")
    if left is not None and price > 0:
        paid = int((left - prompt) / price * 1e6)
        if "max_tokens" not in options:
            asked = min(asked, max(paid // _SHARE, _ENOUGH_TOKENS))
        asked = min(asked, paid)
        if paid <= _SENT_LIMIT or "max_tokens" in options:
            options["max_tokens"] = asked
    return prompt, prompt + asked * price / 1e6
