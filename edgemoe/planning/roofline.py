"""The time of a token, from the bytes and multiplications it takes and what a machine can do.

The method is LLM-Viewer's (Yuan et al., arXiv 2402.16363) after the roofline of Williams et al. (CACM 52(4), 2009): an
operation takes the longer of bytes / bandwidth and operations / rate. The disk is a third roof.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgemoe.planning.machines import Machine

NOT_HIDDEN = 0.2
"""Share of the shorter of computing and reading that the longer one does not hide (docs/plan.md)."""
STEPS_PER_LAYER = 40
"""Nodes of llama.cpp's graph at which threads wait for each other: norms, products, rope, softmax, additions."""
SAMPLING = 9e-9
"""Seconds for each token of the vocabulary, of which one is chosen."""


@dataclass(frozen=True)
class Work:
    """What one token takes: `bytes` of weights and `multiplications` by them; `state_bytes` of its context."""

    dense_bytes: int
    dense_multiplications: int
    expert_bytes: int
    """Of all experts that it uses, at the quality in question."""
    expert_multiplications: int
    state_bytes: int
    layers: int
    vocabulary: int


@dataclass(frozen=True)
class TokenTime:
    """Seconds of one token, and what it reads from disk. `binds` is "disk", "memory" or "compute"."""

    compute: float
    """To multiply by weights that are in memory, bound by memory or by the processor."""
    read: float
    total: float
    bytes_read: float
    binds: str

    @property
    def per_second(self) -> float:
        return 1 / self.total


def token_time(machine: Machine, work: Work, hit_rate: float) -> TokenTime:
    """The time to generate a token when `hit_rate` of the experts it uses are in memory."""
    dense_memory = (work.dense_bytes + work.state_bytes) / machine.memory_bandwidth
    expert_memory = work.expert_bytes / machine.memory_bandwidth
    dense_dots = work.dense_multiplications / machine.dot_rate
    expert_dots = work.expert_multiplications / machine.dot_rate
    rest = work.layers * STEPS_PER_LAYER * machine.step + work.vocabulary * SAMPLING
    compute = max(dense_memory, dense_dots) + max(expert_memory, expert_dots) + rest
    bytes_read = (1 - hit_rate) * work.expert_bytes
    read = bytes_read / machine.disk_bandwidth
    total = max(compute, read) + NOT_HIDDEN * min(compute, read)
    by_memory = dense_memory * (dense_memory >= dense_dots) + expert_memory * (expert_memory >= expert_dots)
    binds = "disk" if read > compute else "memory" if by_memory >= compute / 2 else "compute"
    return TokenTime(compute, read, total, bytes_read, binds)


def prompt_time(machine: Machine, work: Work, tokens: int, bytes_read: float) -> float:
    """Seconds to evaluate a batch of `tokens`, of which `bytes_read` bytes of experts come from disk meanwhile."""
    multiplications = work.dense_multiplications + work.expert_multiplications
    compute = tokens * multiplications / machine.prompt_rate
    read = bytes_read / machine.disk_bandwidth
    return max(compute, read) + NOT_HIDDEN * min(compute, read)
