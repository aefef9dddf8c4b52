"""Sizes of the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Shape:
    """Of a qwen3moe model; every row of every matrix is a multiple of 256 numbers."""

    layers: int = 6
    hidden: int = 256
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    experts: int = 16
    used: int = 2
    expert_width: int = 256
    vocabulary: int = 4096
    context: int = 1024
    rope_base: float = 10000.0
    epsilon: float = 1e-6

    @property
    def parameters(self) -> int:
        """Of all matrices and norms."""
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.kv_heads) + 2 * self.head_size
        experts = self.experts * (3 * self.expert_width + 1) * self.hidden
        return self.layers * (attention + experts + 2 * self.hidden) + self.hidden * (2 * self.vocabulary + 1)

    def as_dict(self) -> dict[str, float]:
        """For checkpoints."""
        return asdict(self)
