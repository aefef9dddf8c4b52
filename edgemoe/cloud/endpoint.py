"""Where a cloud model is, what it costs, how long to wait for it, and where its key is kept."""

from __future__ import annotations

import ipaddress
import math
import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edgemoe.errors import CloudError

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible address.

    Args:
        name: what messages and the ledger call it.
        base_url: up to and without `/chat/completions`, for example `https://api.example.com/v1`.
        model: the name that the server knows it by.
        key_variable: the environment variable with its key.
        keyring: the service, or `SERVICE/USER`, under which the system's keyring has its key; USER is `name` otherwise.
        input_price, output_price: money for a million tokens.
        connect_timeout: seconds for a connection, TLS included.
        first_token_timeout: seconds from a request to the first token.
        stall_timeout: seconds between two pieces of an answer.
        total_timeout: seconds of waiting for one answer.
        slowest: characters per second, on the mean since the first token (with one stall forgiven).
        retries: how often a request is made again when nothing had come yet.
        plain_http: lets the key travel without TLS to another machine.

    Raises:
        CloudError: for a value that cannot be used.
    """

    name: str
    base_url: str
    model: str
    key_variable: str | None = None
    keyring: str | None = None
    input_price: float = 0.0
    output_price: float = 0.0
    connect_timeout: float = 10.0
    first_token_timeout: float = 60.0
    stall_timeout: float = 30.0
    total_timeout: float = 900.0
    slowest: float = 1.0
    retries: int = 2
    plain_http: bool = False

    def __post_init__(self) -> None:
        for text in ("name", "base_url", "model"):
            if not isinstance(value := getattr(self, text), str) or not value.strip():
                raise CloudError(f"an endpoint needs a {text}, not {value!r}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_timeout") and not _is_number(value, above=0):
                raise self._error(f"{field.name} must be seconds above 0, not {value!r}")
            if field.name in ("input_price", "output_price", "slowest") and not _is_number(value):
                raise self._error(f"{field.name} must be a number from 0, not {value!r}")
        if not isinstance(self.retries, int) or not 0 <= self.retries <= 10:
            raise self._error(f"retries must be from 0 to 10, not {self.retries!r}")
        self._check_url()

    @property
    def is_this_machine(self) -> bool:
        """Whether the address is a loopback one: no proxy is asked for it, and a key may go there without TLS."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def url(self) -> str:
        """Where requests go."""
        return self.base_url.rstrip("/") + "/chat/completions"

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Money for one answer."""
        return (prompt_tokens * self.input_price + completion_tokens * self.output_price) / 1e6

    def key(self) -> Key | None:
        """Its key; None when it needs none.

        Raises:
            CloudError: when it is not where it should be, or when the keyring cannot be asked.
        """
        if self.key_variable is None and self.keyring is None:
            return None
        found = os.environ.get(self.key_variable, "") if self.key_variable else ""
        if not found.strip() and self.keyring:
            found = self._from_keyring(self.keyring)
        found = found.strip()
        if not found:
            places = [f"the variable {self.key_variable}"] if self.key_variable else []
            places += [f"the keyring's {self.keyring}"] if self.keyring else []
            raise self._error(f"has no key: {' and '.join(places)} is empty")
        if not all("!" <= c <= "~" for c in found):
            raise self._error("has a key with characters that no key has (spaces, or not ASCII): copy it again")
        return Key(found)

    def _from_keyring(self, place: str) -> str:
        try:
            import keyring
        except ImportError:
            raise self._error(
                "keeps its key in the keyring, for which a package is missing: pip install 'edgemoe[keyring]'"
            ) from None
        service, _, user = place.partition("/")
        try:
            return keyring.get_password(service, user or self.name) or ""
        except keyring.errors.KeyringError as error:
            raise self._error(f"keeps its key in the keyring, which cannot be asked: {error}") from None

    def _check_url(self) -> None:
        """Nothing that is wrong with an address is shown with the password that it may have."""
        try:
            parts = urlsplit(self.base_url)
            port = parts.port
        except ValueError as error:
            raise self._error(f"has no usable base_url: {error}") from None
        if parts.username is not None or parts.password is not None:
            raise self._error("has a name or password in its base_url: name a key_variable, or use the keyring")
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise self._error(f"needs a base_url like https://api.example.com/v1, not {self.base_url!r}")
        if parts.query or parts.fragment or not self.base_url.isprintable() or " " in self.base_url:
            raise self._error("has a base_url with a query, a fragment or spaces: leave the path alone")
        if parts.scheme == "http" and (self.key_variable or self.keyring) and not self.plain_http:
            if self.is_this_machine:
                return
            raise self._error(f"would send its key without TLS to {parts.hostname}: use https, or plain_http = true")

    def _error(self, message: str) -> CloudError:
        return CloudError(f"the endpoint {self.name!r} {message}")


def _is_number(value: object, above: float | None = None) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return False
    return value > above if above is not None else value >= 0


class Key:
    """A secret that nothing shows: it goes into a request's header and nowhere else."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: httpx.Request) -> httpx.Request:
        """As httpx calls what authenticates a request."""
        request.headers["Authorization"] = f"Bearer {self._value}"
        return request

    def __repr__(self) -> str:
        return "<key>"

    def __reduce__(self) -> str:
        raise TypeError("a key is not written anywhere")

    def removed_from(self, text: str) -> str:
        """`text` without the key, which a server may have sent back."""
        return text.replace(self._value, "[key]")
