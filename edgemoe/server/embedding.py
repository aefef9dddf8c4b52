"""Embeddings, by models that were trained for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Embedded:
    """Vectors of texts, in order, and how many tokens the texts have."""

    model: str
    vectors: list[list[float]]
    tokens: int
