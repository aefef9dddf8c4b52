"""Downloads and packs that were begun and did not end: what of them is on the disk, to be shown and taken away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgemoe.errors import EdgeMoEError
from edgemoe.files import data_folder
from edgemoe.hub.known import Known, change, read
from edgemoe.hub.names import find_among

# `paths` of such a model are the files that it leaves on the disk, whole or growing, and `bytes` is what it will have.


def unfinished() -> list[Known]:
    """Those of which something is there and something is missing. Raises ModelError as `known.read` does."""
    return [model for model in read(_file()) if 0 < there(model) < (model.bytes or there(model) + 1)]


def there(model: Known) -> int:
    """Bytes of it that the disk has."""
    found = 0
    for path in model.paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            found += min(status.st_size, status.st_blocks * 512)  # a pack is as long as it will be from the beginning
    return found


def find_unfinished(name: str) -> Known | None:
    """What `name` means: where it is from, REPO, REPO:QUANT, or what it will be called."""
    models = unfinished()
    return next((model for model in models if name == model.source), None) or find_among(models, name)


@contextmanager
def begun(model: Known) -> Iterator[None]:
    """Keeps what is begun on the list until it ends well. Where the list cannot be written, it is not listed."""
    if not model.paths:
        yield
        return
    with contextlib.suppress(EdgeMoEError):
        change(_file(), lambda models: _with(models, model))
    yield
    with contextlib.suppress(EdgeMoEError):
        forget(model)


def forget(model: Known) -> None:
    """Takes it off the list. Raises WriteError, ModelError."""
    change(_file(), lambda models: [other for other in models if not _same(other, model)])


def traces(model: Known) -> tuple[Path, ...]:
    """All that it left on the disk, what stands beside files that grow included."""
    return tuple(path for each in model.paths for path in (each, *_beside(each)) if path.exists() or path.is_symlink())


def _beside(path: Path) -> tuple[Path, ...]:
    """What may stand beside a file that grows: of a download its version and lock, of a pack its journal."""
    kinds = ("version", "lock", "journal") if path.suffix == ".partial" else ()
    return tuple(path.with_name(f"{path.name}.{kind}") for kind in kinds)


def _with(models: list[Known], model: Known) -> list[Known]:
    before = next((other for other in models if _same(other, model)), model)
    places = dict.fromkeys((*before.paths, *model.paths))  # shards that came the last time are not missing now
    others = [other for other in models if not _same(other, model) and there(other)]
    return [*others, replace(model, paths=tuple(places))]


def _same(one: Known, other: Known) -> bool:
    return (one.source, one.name) == (other.source, other.name) or bool(one.source) and one.source == other.source


def _file() -> Path:
    return data_folder() / "unfinished.json"
