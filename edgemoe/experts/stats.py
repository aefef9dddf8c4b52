"""Counters of a running model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """What a model has done since it was loaded. Times are in seconds.

    A hit is an expert of a layer, used by a batch, that was wholly in memory when the batch reached the layer;
    hits + misses is the number of distinct experts used, summed over layers and batches.
    """

    prompt_tokens: int
    decode_tokens: int
    prompt_seconds: float
    decode_seconds: float
    time_to_first_token: float
    """Of the last request."""
    hits: int
    misses: int
    bytes_read: int
    used_bits: int
    """Of the expert weights that tokens were multiplied by, tokens times weights."""
    used_weights: int
    io_wait: float
    """During which computing waited for a read."""
    compute_time: float
    """Inside expert layers, waiting not included."""
    cache_bytes: int
    resident_bytes: int
    """Experts in memory now."""
    rss_bytes: int
    peak_bytes: int
    """Highest resident set of the process so far."""
    budget_bytes: int | None
    budget_changes: int = 0
    """By `set_memory`, or because memory="auto" followed the machine's memory."""

    @property
    def prompt_tps(self) -> float:
        """Tokens per second; 0 before the first."""
        return self.prompt_tokens / self.prompt_seconds if self.prompt_seconds else 0.0

    @property
    def decode_tps(self) -> float:
        """Tokens per second; 0 before the first."""
        return self.decode_tokens / self.decode_seconds if self.decode_seconds else 0.0

    @property
    def hit_rate(self) -> float:
        """From 0 to 1; 1 before the first use."""
        used = self.hits + self.misses
        return self.hits / used if used else 1.0

    @property
    def bytes_per_token(self) -> float:
        """Read from disk, the load included, for each evaluated token; 0 before the first."""
        tokens = self.prompt_tokens + self.decode_tokens
        return self.bytes_read / tokens if tokens else 0.0

    @property
    def bits_per_weight(self) -> float:
        """Mean bits of the expert weights that tokens were multiplied by; 0 before the first."""
        return self.used_bits / self.used_weights if self.used_weights else 0.0

    def since(self, earlier: Stats) -> Stats:
        """The counters' growth since `earlier`; sizes, peaks and the time to first token are the current ones."""
        counters = ["prompt_tokens", "decode_tokens", "prompt_seconds", "decode_seconds"]
        counters += ["hits", "misses", "bytes_read", "used_bits", "used_weights", "io_wait", "compute_time"]
        counters += ["budget_changes"]
        return dataclasses.replace(self, **{name: getattr(self, name) - getattr(earlier, name) for name in counters})


class Clock:
    """Tokens and seconds of prompts (batches of several tokens) and of decoding (one token of each sequence)."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.prompt_seconds = 0.0
        self.decode_tokens = 0
        self.decode_seconds = 0.0
        self.first_token = 0.0

    def add(self, tokens: int, seconds: float, sequences: int = 1) -> None:
        """A batch of `tokens` tokens of `sequences` different sequences."""
        if tokens > sequences:
            self.prompt_tokens += tokens
            self.prompt_seconds += seconds
        else:
            self.decode_tokens += tokens
            self.decode_seconds += seconds
