"""What people call models: a path, a short name, or REPO[:FILE] of what was pulled."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgemoe.default_model import default_model_path
from edgemoe.errors import ModelError
from edgemoe.files import state_folder
from edgemoe.hub.known import Known, known

_PLACES = ("https://huggingface.co/", "huggingface.co/", "hf.co/", "hf://")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_FILE_IN_PAGE = re.compile(r"([\w.-]+/[\w.-]+)/(?:resolve|blob)/([^/?#]+)/([^?#]+)")


def resolve(name: str | os.PathLike[str]) -> Path:
    """The file of a model: a path as it is, a short name (see `model_names`), or a REPO[:FILE] that was pulled.

    Raises:
        ModelError: when there is none; the message has near names and says how to pull.
    """
    path = Path(name)
    if not isinstance(name, str) or os.path.exists(name):
        return path
    if model := find(name):
        if not model.path.exists():
            again = f"edgemoe pull {model.source}" if model.source else "give its new place with edgemoe pull PATH"
            raise ModelError(f"the file of {model.name}, {model.path}, is gone: {again}, or edgemoe rm {model.name}")
        return model.path
    if name == embedded_name():
        return default_model_path()
    raise ModelError(unknown(name))


def find(name: str) -> Known | None:
    """The known model of this name, or the newest that REPO, REPO:FILE or REPO:QUANT means."""
    return find_among(known(), name)


def find_among(models: Sequence[Known], name: str) -> Known | None:
    """As `find`, among these models."""
    for model in models:
        if model.name.lower() == name.lower():
            return model
    repository, wanted = split_reference(name) or ("", None)
    from_there = [model for model in models if model.repository.lower() == repository.lower() != ""]
    if wanted is not None:
        from_there = [model for model in from_there if wanted.lower() in _calls(model)]
    return max(from_there, key=lambda model: model.since, default=None)


def _calls(model: Known) -> set[str]:
    """What may stand behind the colon."""
    file = model.source.partition(":")[2]
    return {file.lower(), file.rpartition("/")[2].lower(), model.quant.lower()}


def model_names() -> list[str]:
    """All short names, that of the model which comes with edgemoe included."""
    found = [model.name for model in known()]
    embedded = embedded_name()
    return found if embedded is None or embedded in found else [*found, embedded]


def name_of(path: str | os.PathLike[str]) -> str | None:
    """What the model at `path` is called; None where it has no name, or nobody knows."""
    with suppress(ModelError):
        whole = Path(path).absolute()
        return next((model.name for model in known() if model.path == whole), None)
    return None


def embedded_name() -> str | None:
    """Of the small model that comes with edgemoe; None where an installation has none."""
    try:
        return default_model_path().name.removesuffix(".gguf").removesuffix(".mwq")
    except ModelError:
        return None


def split_reference(text: str) -> tuple[str, str | None] | None:
    """REPO and FILE of REPO[:FILE], also with the hub's address before it; None for anything else."""
    for place in _PLACES:
        text = text.removeprefix(place)
    repository, colon, wanted = text.partition(":")
    if not _REPOSITORY.fullmatch(repository) or repository.startswith(".") or repository.endswith(".gguf"):
        return None
    return repository, wanted if colon else None


def split_page(url: str, endpoint: str) -> tuple[str, str, str] | None:
    """REPO, revision and FILE of the address of a file at the hub; None for others."""
    for place in (endpoint.rstrip("/") + "/", *_PLACES):
        if url.startswith(place) and (match := _FILE_IN_PAGE.fullmatch(url.removeprefix(place))):
            return match[1], match[2], match[3]
    return None


def unknown(name: str) -> str:
    """What to say of a name that nothing has."""
    from edgemoe.hub.unfinished import find_unfinished

    if begun := find_unfinished(name):
        return f"{name} did not come to its end: edgemoe pull {begun.source or name} goes on with it"
    if split_reference(name) and not Path(name).parent.is_dir():
        return f"{name} was not pulled: edgemoe pull {name} gets it"
    if name.endswith(".gguf") or os.sep in name:
        near = _near_files(Path(name))
        return f"there is no model file {name}" + (f": did you mean {' or '.join(near)}?" if near else "")
    near = nearest(name, model_names())
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"there is no model file or name {name!r}: {hint}edgemoe list shows what there is, edgemoe pull gets more"


def _near_files(path: Path) -> list[str]:
    """Models in the same folder, or else short names, that were probably meant."""
    try:
        there = [entry.name for entry in os.scandir(path.parent) if entry.name.endswith(".gguf")]
    except (OSError, ValueError):
        there = []
    return [str(path.with_name(name)) for name in nearest(path.name, there)] or nearest(path.stem, model_names())


def nearest(name: str, known_names: Sequence[str]) -> list[str]:
    """Up to three that were probably meant: similar, or with `name` in them."""
    lower = {candidate.lower(): candidate for candidate in known_names}
    close = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.6)
    within = [
        candidate for candidate in lower if len(name) > 2 and name.lower() in candidate and candidate not in close
    ]
    return [lower[candidate] for candidate in (*close, *within)][:3]


# When models were used


def mark_used(path: str | os.PathLike[str]) -> None:
    """Keeps when the model at `path` was opened; where that cannot be written, nothing happens."""
    with suppress(OSError, RuntimeError):
        stamp = _stamp(path)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()


def last_used(path: str | os.PathLike[str]) -> float | None:
    """When it was opened last, in seconds since 1970; None if never."""
    try:
        return _stamp(path).stat().st_mtime
    except (OSError, RuntimeError):
        return None


def _stamp(path: str | os.PathLike[str]) -> Path:
    place = os.fsencode(os.path.abspath(path))
    return state_folder() / "used" / hashlib.sha1(place, usedforsecurity=False).hexdigest()
