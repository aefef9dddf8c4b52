"""What a machine can do: this one as measured, and others by published figures (docs/plan.md has the sources)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GIB = 1 << 30


@dataclass(frozen=True)
class Machine:
    """Rates of all cores together.

    `memory_bandwidth` and `disk_bandwidth` are in bytes per second; the latter is that of random reads of 256 KiB past
    the page cache, eight at a time. `dot_rate` are multiplications per second by weights of four bits for one token,
    `prompt_rate` those for a prompt, all else that it takes included. `step` are the seconds for which a step of the
    graph keeps the threads waiting for each other.
    """

    name: str
    description: str
    memory_bytes: int
    memory_bandwidth: float
    dot_rate: float
    prompt_rate: float
    disk_bandwidth: float
    step: float

    @property
    def spare_memory(self) -> int:
        """Bytes that a model may take and leave the machine usable."""
        return self.memory_bytes * 3 // 4


_PI5: dict[str, Any] = {
    "memory_bytes": 8 * GIB,
    "memory_bandwidth": 10e9,
    "dot_rate": 33e9,
    "prompt_rate": 33e9,
    "step": 4e-6,
}

MACHINES = {
    machine.name: machine
    for machine in (
        Machine("pi5-nvme", "Raspberry Pi 5, 8 GB, NVMe drive (PCIe 3.0 x1)", disk_bandwidth=750e6, **_PI5),
        Machine("pi5-sd", "Raspberry Pi 5, 8 GB, SD card (SDR104)", disk_bandwidth=85e6, **_PI5),
        Machine("m1-air", "MacBook Air (M1), 8 GB", 8 * GIB, 58e9, 122e9, 122e9, 2.68e9, 4e-6),
        Machine("x86-laptop", "Laptop with a Core i3-1315U, 8 GB", 8 * GIB, 22e9, 92e9, 92e9, 2.3e9, 4e-6),
    )
}
