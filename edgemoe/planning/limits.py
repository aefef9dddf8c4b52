"""What limits the speed on a machine, the costliest first: each resource is made better on paper, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from edgemoe.errors import BudgetError
from edgemoe.planning.locality import default_curve
from edgemoe.planning.machines import Machine
from edgemoe.planning.roofline import TokenTime, Work, token_time
from edgemoe.sizes import format_size

GOOD_DISK = 2e9
"""Bytes per second of random reads that an NVMe drive of laptops reaches (docs/plan.md)."""
WORTH_TELLING = 1.05
"""Times the speed below which a change is left out."""

Speed = Callable[[Machine], TokenTime]
"""The time of a token on a machine. Raises BudgetError where the model does not fit."""

# Qwen3-30B-A3B in Q4_K: 48 layers of 128 experts, 8 of them used (its GGUF's header; counts of one token).
_EXPERT_BYTES = 16_300_000_000
_TYPICAL = Work(
    dense_bytes=870_000_000,
    dense_multiplications=1_540_000_000,
    expert_bytes=_EXPERT_BYTES * 8 // 128,
    expert_multiplications=1_812_000_000,
    state_bytes=100_000_000,
    layers=48,
    vocabulary=151936,
)
_BESIDE = 600 << 20
"""Bytes of a process beside its dense weights and experts."""


@dataclass(frozen=True)
class Limit:
    """One resource: what there is, and how many times as fast the model would be with `better`."""

    name: str
    value: str
    better: str
    gain: float


def typical_speed(machine: Machine) -> TokenTime:
    """Of a model such as Qwen3-30B-A3B in Q4_K, in three quarters of the memory.

    Raises:
        BudgetError: when not even its dense weights have room.
    """
    cache = machine.spare_memory - _TYPICAL.dense_bytes - _BESIDE
    if cache < _TYPICAL.expert_bytes // _TYPICAL.layers:
        raise BudgetError("a model of 30 billion weights does not fit")
    return token_time(machine, _TYPICAL, default_curve(cache / _EXPERT_BYTES))


def find_limits(machine: Machine, speed: Speed) -> list[Limit]:
    """What would make the model faster here, the most helpful first; memory alone where the model does not fit."""
    memory = format_size(machine.memory_bytes)
    doubled = replace(machine, memory_bytes=2 * machine.memory_bytes)
    try:
        now = speed(machine).per_second
    except BudgetError as error:
        return [
            Limit(
                "memory", f"{memory}, in which the model does not fit: {_first_line(error)}", "more of it", float("inf")
            )
        ]
    faster_cores = replace(machine, dot_rate=2 * machine.dot_rate, step=machine.step / 2)
    changes = [
        ("memory", memory, f"twice as much ({format_size(doubled.memory_bytes)}): fewer experts are read", doubled),
        ("memory bandwidth", f"{machine.memory_bandwidth / 1e9:.1f} GB/s", "twice as much (a second module)",
         replace(machine, memory_bandwidth=2 * machine.memory_bandwidth)),
        ("cores", f"{machine.dot_rate / 1e9:.0f} G products a second", "twice as many, or newer ones", faster_cores),
    ]  # fmt: skip
    if machine.disk_bandwidth < GOOD_DISK:
        better = f"an NVMe drive ({GOOD_DISK / 1e9:.0f} GB/s)"
        disk = replace(machine, disk_bandwidth=GOOD_DISK)
        changes.append(("disk", f"{machine.disk_bandwidth / 1e6:.0f} MB/s", better, disk))
    limits = [Limit(name, value, better, speed(other).per_second / now) for name, value, better, other in changes]
    return sorted((one for one in limits if one.gain >= WORTH_TELLING), key=lambda one: -one.gain)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
