"""The file of known models: what was pulled or given a name, and what it is."""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from edgemoe.errors import ModelError
from edgemoe.files import data_folder, locked, reason, replace_file

_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Known:
    """A model with a name. `paths` are its files, the first shard first; sizes are in bytes.

    `source` says where it is from: REPO:FILE, a URL, or "" for a file of the user's. `quant` is what a repository calls
    its type. `ours`: pull wrote these files, so that rm may delete them.
    """

    name: str
    paths: tuple[Path, ...]
    source: str = ""
    revision: str = ""
    quant: str = ""
    ours: bool = False
    bytes: int = 0
    architecture: str = ""
    type: str = ""
    """Of its experts, or of all else where there are none; "pack 2,3,4" for a pack with these levels."""
    experts: int = 0
    experts_used: int = 0
    since: float = 0.0
    """When it was pulled, in seconds since 1970."""

    @property
    def path(self) -> Path:
        """What to open."""
        return self.paths[0]

    @property
    def repository(self) -> str:
        """REPO of the hub, or ""."""
        repository, colon, _ = self.source.partition(":")
        return repository if colon and repository.count("/") == 1 else ""


def known() -> list[Known]:
    """All of them, by name. Raises ModelError as `read` does."""
    return read(file())


def read(path: Path) -> list[Known]:
    """The models that a file lists, by name.

    Raises:
        ModelError: when it is damaged or cannot be read.
    """
    try:
        content = json.loads(path.read_bytes())
        if content["version"] > _VERSION:
            raise ModelError(f"{path} was written by a newer edgemoe: update this one")
        found = [_known(values) for values in content["models"]]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {reason(path, error)}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}, the list of models, is damaged: remove it and pull models again") from error
    return sorted(found, key=lambda model: model.name.lower())


def file() -> Path:
    """Where the list is."""
    return data_folder() / "models.json"


def models_folder() -> Path:
    """Where downloads that no repository names are put, and packs of what was pulled."""
    return data_folder() / "models"


def add(model: Known) -> None:
    """Puts a model on the list, in place of one with the same name. Raises WriteError, ModelError."""
    check_name(model.name)
    change(file(), lambda models: [*(m for m in models if m.name.lower() != model.name.lower()), model])


def forget(name: str) -> None:
    """Takes a model off the list; its files stay. Raises WriteError, ModelError."""
    change(file(), lambda models: [model for model in models if model.name != name])


def check_name(name: str) -> None:
    """Raises ModelError for what cannot be a short name."""
    if not _NAME.fullmatch(name) or name.lower().endswith(".gguf"):
        raise ModelError(f"{name!r} cannot be a name: use letters, digits, '.', '-' and '_', and no .gguf at the end")


def free_name(wanted: Sequence[str], paths: tuple[Path, ...]) -> str:
    """What `paths` are called already, or the first of `wanted` that is free, or the last with a number behind it."""
    models = known()
    if before := next((model.name for model in models if model.paths == paths), None):
        return before
    taken = {model.name.lower() for model in models}
    plain = [_plain(name) for name in wanted]
    numbered = (f"{plain[-1]}-{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain(plain, numbered) if name not in taken)


def _plain(text: str) -> str:
    """A name made of `text`, without what its letters carry."""
    bare = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return re.sub(r"[^a-z0-9._-]+", "-", bare.lower())[:72].removesuffix(".gguf").strip("-._") or "model"


def change(path: Path, to: Callable[[list[Known]], list[Known]]) -> None:
    """Writes the file that lists models anew. Raises WriteError, ModelError."""
    with locked(path):
        content = {"version": _VERSION, "models": [_values(model) for model in to(read(path))]}
        replace_file(path, json.dumps(content, indent=1, ensure_ascii=False).encode())


def _values(model: Known) -> dict[str, Any]:
    return asdict(model) | {"paths": [str(path) for path in model.paths]}


def _known(values: dict[str, Any]) -> Known:
    paths = tuple(Path(path) for path in values["paths"])
    if not paths:
        raise ValueError("a model without files")
    plain = {field.name: values[field.name] for field in fields(Known) if field.name in values}
    default = Known("", paths)
    for name, value in plain.items():
        wanted: Any = list if name == "paths" else type(getattr(default, name))
        if not isinstance(value, (int, float) if wanted is float else wanted):
            raise ValueError(name)
    return replace(default, **plain | {"paths": paths})
