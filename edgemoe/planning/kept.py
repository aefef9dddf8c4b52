"""This machine as measured once: what was found is kept in the user's cache folder."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import msgpack

from edgemoe import machine
from edgemoe.bench.disk import measure_disk
from edgemoe.errors import WriteError
from edgemoe.files import cache_folder, replace_file
from edgemoe.planning.machines import Machine
from edgemoe.planning.measure import measure_rates

_VERSION = 1


def this_machine(model: str | os.PathLike[str], *, disk: float | None = None, again: bool = False) -> Machine:
    """This machine with the disk that holds `model`: as measured earlier, or now if it was not or `again` is set.

    `disk`, in bytes per second, takes the place of the measured one.

    Raises:
        ReadError: when the model cannot be read to measure its disk.
        EdgeMoEError: when llama.cpp's library does not load, or there is no memory to measure with.
    """
    kept = _Kept(profile_path())
    rates = None if again else _rates(kept.find("machines", _machine_key()))
    if rates is None:
        rates = measure_rates()
        kept.keep("machines", _machine_key(), asdict(rates))
    if disk is None and not again:
        disk = _positive(kept.find("disks", _disk_key(model)))
    if disk is None:
        disk = measure_disk(Path(model)).many_readers
        kept.keep("disks", _disk_key(model), disk)
    return replace(rates, memory_bytes=machine.total_memory(), disk_bandwidth=disk)


def profile_path() -> Path:
    """Where measured rates are kept."""
    return cache_folder() / "machine.msgpack"


def _machine_key() -> str:
    return f"{platform.node()}, {machine.processor_name()}, {machine.processors()} cores"


def _disk_key(model: str | os.PathLike[str]) -> str:
    return f"{platform.node()}, device {os.stat(model).st_dev}"


def _rates(kept: Any) -> Machine | None:
    """What was kept, if this version of edgemoe can use it."""
    if not isinstance(kept, dict) or set(kept) != {field.name for field in fields(Machine)}:
        return None
    numbers = [value for name, value in kept.items() if name not in ("name", "description", "disk_bandwidth")]
    return Machine(**kept) if all(_positive(number) for number in numbers) else None


def _positive(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and 0 < value < float("inf") else None


class _Kept:
    """A file of rates by machine and by disk. One that cannot be read or written is no error: they are measured."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, kind: str, key: str) -> Any:
        entries = self._read().get(kind)
        return entries.get(key) if isinstance(entries, dict) else None

    def keep(self, kind: str, key: str, value: Any) -> None:
        everything = self._read()
        entries = everything.get(kind)
        everything[kind] = (entries if isinstance(entries, dict) else {}) | {key: value}
        with suppress(WriteError):
            replace_file(self._path, msgpack.packb({**everything, "version": _VERSION}))

    def _read(self) -> dict[str, Any]:
        try:
            found = msgpack.unpackb(self._path.read_bytes(), raw=False)
        except (OSError, ValueError, msgpack.UnpackException):
            return {}
        return found if isinstance(found, dict) and found.get("version") == _VERSION else {}
