"""What an application of replicas is started with."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edgemoe import machine
from edgemoe.config import LocalModel
from edgemoe.default_model import default_model_path
from edgemoe.errors import EdgeMoEError
from edgemoe.server.settings import Settings, name_of
from edgemoe.sizes import parse_size

PREFIX = "EDGEMOE_"


@dataclass(frozen=True)
class Fleet:
    """`min_replicas` to `max_replicas` replicas, each with a copy of `model` and `memory` for its process.

    A replica has `threads` processors to itself and computes `parallel` requests together; `queue` more wait in a
    gateway. Where there are `gateways`, requests are forwarded by whichever of them the cluster's proxy asks. Without
    an `api_key` only requests to this machine's own name and to `hosts` (separated by commas) are answered.
    """

    model: str | None = None
    memory: str = "auto"
    quality: str = "exact"
    ctx: int | None = None
    threads: int = field(default_factory=machine.processors)
    parallel: int = 4
    queue: int = 32
    min_replicas: int = 1
    max_replicas: int = 4
    gateways: int = 1
    hosts: str = ""
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.min_replicas > self.max_replicas:
            raise EdgeMoEError(f"min_replicas {self.min_replicas} is more than max_replicas {self.max_replicas}")
        for name in ("threads", "parallel", "min_replicas", "gateways"):
            if getattr(self, name) < 1:
                raise EdgeMoEError(f"{name} {getattr(self, name)} is too few: at least 1")
        if self.queue < 0 or (self.ctx is not None and self.ctx < 16):
            raise EdgeMoEError(f"queue {self.queue} has to be 0 or more, and ctx {self.ctx} 16 or more")
        if self.memory != "auto":
            parse_size(self.memory, whole=1 << 50)

    @property
    def reserved_memory(self) -> int | None:
        """Bytes that the cluster keeps for a replica; None where `memory` follows the machine."""
        follows = self.memory == "auto" or self.memory.rstrip().endswith("%")
        return None if follows else parse_size(self.memory)

    @property
    def host_names(self) -> tuple[str, ...]:
        """The names in `hosts`."""
        return tuple(name for part in self.hosts.split(",") if (name := part.strip().lower()))

    def server(self) -> Settings:
        """The settings of one replica's server. The model's file has to be on the machine where this is called.

        Raises:
            ModelError: there is no such model.
        """
        from edgemoe.hub import resolve
        from edgemoe.hub.names import name_of as short_name

        path = Path(resolve(self.model)) if self.model else default_model_path()
        name = short_name(path) or name_of(path)
        model = LocalModel(name, path, quality=self.quality, ctx=self.ctx, threads=self.threads)
        return Settings({name: model}, self.memory, self.parallel, self.queue, keep_alive=None)


def read_fleet(arguments: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Fleet:
    """Settings from `arguments`, and where they say nothing from variables: EDGEMOE_MEMORY is `memory`.

    Raises:
        EdgeMoEError: an argument is unknown, or a value is of the wrong kind.
    """
    types = {field.name: field.type for field in fields(Fleet)}
    if unknown := [name for name in arguments if name not in types]:
        raise EdgeMoEError(f"there is no setting {unknown[0]!r}: use {', '.join(types)}")
    variables = {name: environment.get(PREFIX + name.upper()) for name in types}
    given = {name: value for name, value in {**variables, **arguments}.items() if value not in (None, "")}
    values: dict[str, Any] = {
        name: _number(name, value) if "int" in str(types[name]) else str(value) for name, value in given.items()
    }
    return Fleet(**values)


def _number(name: str, value: Any) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", str(value)):
        raise EdgeMoEError(f"{name} {value!r} is no number")
    return int(value)
