"""What a server is started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgemoe.config import Config, LocalModel

AUTO = "auto"
"""The name of the model that lets the router choose."""


@dataclass(frozen=True)
class Settings:
    """`models` by name, the default one first; `config` is given where "auto" routes. `queue` more requests than
    `parallel` may wait for each other; `keep_alive` seconds without a request unload a model (None: never). With
    `local_only` nothing leaves this machine.
    """

    models: Mapping[str, LocalModel] = field(default_factory=dict)
    memory: int | str = AUTO
    parallel: int = 4
    queue: int = 32
    keep_alive: float | None = 300.0
    config: Config | None = None
    local_only: bool = False

    @property
    def names(self) -> list[str]:
        """Models that requests may name, the default one first."""
        return [*([AUTO] if self.config is not None else []), *self.models]


def name_of(path: Path) -> str:
    """What requests call the model of a file that has no short name: "tinystories-moe" for tinystories-moe.mwq.gguf."""
    return path.name.removesuffix(".gguf").removesuffix(".mwq")
