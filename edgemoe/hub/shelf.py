"""The models that are on this machine: what they are, and taking them away again."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgemoe.default_model import default_model_path
from edgemoe.errors import ModelError, WriteError
from edgemoe.hub import known as listed
from edgemoe.hub.known import Known
from edgemoe.hub.names import embedded_name, find, unknown
from edgemoe.hub.repository import remove_from_cache
from edgemoe.hub.unfinished import find_unfinished, there, traces
from edgemoe.hub.unfinished import forget as forget_unfinished
from edgemoe.running import running

EMBEDDED = "edgemoe"
"""The source of the small model."""


def described(model: Known) -> Known:
    """The model with its sizes, type and experts filled in. Raises ModelError, ReadError for a file that is none."""
    from edgemoe.packs.summary import open_model, summarize

    opened = open_model(model.path)
    summary = summarize(model.path, opened)
    types = summary.expert_types or summary.dense_types
    largest = max(types, key=types.__getitem__, default="")
    levels = ",".join(map(str, opened.levels))
    return replace(
        model,
        paths=tuple(path.absolute() for path in summary.paths),
        bytes=summary.file_bytes,
        architecture=summary.architecture,
        type=f"pack {levels}" if levels else largest.upper(),
        experts=summary.experts,
        experts_used=summary.experts_used,
    )


def shelf() -> list[Known]:
    """All models that have a name, the small one that comes with edgemoe last."""
    models = listed.known()
    name = embedded_name()
    if name is not None and name not in {model.name for model in models}:
        models.append(described(Known(name, (default_model_path(),), EMBEDDED)))
    return models


def keep(model: Known) -> Known:
    """Describes a model and puts it on the list. Raises ModelError, ReadError, WriteError."""
    full = replace(described(model), since=time.time())
    listed.add(full)
    return full


def pulled(path: str | os.PathLike[str]) -> Known | None:
    """The model whose file pull wrote there; None for other files."""
    with contextlib.suppress(ModelError):
        whole = Path(path).absolute()
        return next((model for model in listed.known() if model.ours and model.path == whole), None)
    return None


def pack_of(model: Known) -> Known:
    """What a pack of a model is called, and where it is put: not into the hub's cache. Makes the folder."""
    target = listed.models_folder() / f"{model.name}.mwq.gguf"
    target.parent.mkdir(parents=True, exist_ok=True)
    return Known(listed.free_name([f"{model.name}-pack"], (target,)), (target,), ours=True)


@dataclass(frozen=True)
class Removal:
    """What taking a model off the list takes with it. `files` are those that pull wrote and no other name needs."""

    model: Known
    files: tuple[Path, ...]
    bytes: int
    unfinished: bool = False
    """It is what a download or a pack left that did not come to its end."""


def plan_removal(name: str) -> Removal:
    """What removing `name` would delete.

    Raises:
        ModelError: nothing has this name, it comes with edgemoe, or a process has the model open.
    """
    model = find(name)
    if model is None:
        if begun := find_unfinished(name):
            return _removal_of_unfinished(begun)
        if name == embedded_name():
            raise ModelError(f"{name} comes with edgemoe and was not pulled: it stays")
        if Path(name).exists():
            raise ModelError(f"{name} is a file of yours, not the name of a model that was pulled: delete it yourself")
        raise ModelError(unknown(name))
    if model.ours:  # other files stay where they are
        _check_unused(model.name, model.paths)
    others = {path.resolve() for other in listed.known() if other.name != model.name for path in other.paths}
    files = [path for path in model.paths if model.ours and path.exists() and path.resolve() not in others]
    return Removal(model, tuple(files), sum(path.stat().st_size for path in files))


def _removal_of_unfinished(model: Known) -> Removal:
    _check_unused(model.source or model.name, model.paths)
    return Removal(model, traces(model), there(model), unfinished=True)


def remove(removal: Removal) -> None:
    """Takes the model off the list, then its files from the disk. Raises WriteError, ModelError."""
    if removal.unfinished:
        forget_unfinished(removal.model)
    else:
        listed.forget(removal.model.name)
    for path in removal.files:
        try:
            remove_from_cache(path)
            if path.parent.parent == listed.models_folder() and not any(path.parent.iterdir()):
                path.parent.rmdir()
        except OSError as error:
            raise WriteError(f"{path} cannot be removed: {error.strerror}") from error


def _check_unused(name: str, paths: Sequence[Path]) -> None:
    if users := _users(paths):
        raise ModelError(f"{name} is in use by {', '.join(users)}: end that first")


def _users(paths: Sequence[Path]) -> list[str]:
    """Processes that have one of the files open, whatever program they run."""
    files = {path.resolve() for path in paths}
    found = {one.pid for one in running() if files & {path.resolve() for path in one.paths}}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(Path(os.readlink(entry.path)) in files for entry in os.scandir(process / "fd")):
                found.add(int(process.name))
            mapped = (process / "maps").read_text(errors="replace")
            if any(str(path) in mapped for path in files):
                found.add(int(process.name))
    return [f"process {pid}" for pid in sorted(found)]
