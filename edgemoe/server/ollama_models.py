"""The models of a server as ollama's clients list them."""

from __future__ import annotations

import hashlib
from math import prod
from pathlib import Path
from typing import Any

from edgemoe.default_model import default_model_path
from edgemoe.errors import ModelError
from edgemoe.packs.summary import open_model, summarize
from edgemoe.server.embedding import makes_embeddings
from edgemoe.server.ollama_shapes import as_time
from edgemoe.server.ollama_types import Details, Listed, Loaded, Shown
from edgemoe.server.service import Service
from edgemoe.server.settings import AUTO

_FOREVER = 1 << 33
"""Seconds since 1970: when a model expires that is never unloaded."""


def tagged(name: str) -> str:
    """The name with a tag, which ollama's clients expect."""
    return name if ":" in name else f"{name}:latest"


def listed(service: Service, name: str) -> Listed:
    """An entry of the list. Raises ModelError, ReadError where the file is none."""
    if name == AUTO:
        kind = Details(family="router", families=["router"], parameter_size="", quantization_level="")
        digest = hashlib.sha256(AUTO.encode()).hexdigest()
        when = as_time(service.created)
        return Listed(name=tagged(name), model=tagged(name), modified_at=when, size=0, digest=digest, details=kind)
    path = _path(service, name)
    summary = summarize(path)
    return Listed(
        name=tagged(name),
        model=tagged(name),
        modified_at=as_time(path.stat().st_mtime),
        size=summary.file_bytes,
        digest=_digest(path),
        details=details(path),
    )


def loaded(service: Service, name: str) -> Loaded | None:
    """An entry of the list of models in memory; None for one that is not."""
    hosted = service.shared.loaded.get(name)
    if hosted is None:
        return None
    path = _path(service, name)
    state = next(model for model in service.snapshot().models if model.name == name)
    expires = service.keeper.expires(name)
    return Loaded(
        name=tagged(name),
        model=tagged(name),
        size=hosted.stats().resident_bytes,
        digest=_digest(path),
        details=details(path),
        expires_at=as_time(_FOREVER if expires is None else min(expires, _FOREVER)),
        context_length=state.ctx or 0,
    )


def shown(service: Service, name: str) -> Shown:
    """What a model's file says of it; "auto" is shown as the first model here."""
    path = _path(service, next(iter(service.settings.models)) if name == AUTO else name)
    metadata: dict[str, Any] = open_model(path).metadata()
    model = service.settings.models.get(name)
    settings = model.sampling if model is not None else {}
    return Shown(
        modelfile=f"FROM {path.name}\n",
        parameters="\n".join(f"{key} {value}" for key, value in settings.items()),
        template=str(metadata.get("tokenizer.chat_template") or ""),
        details=details(path),
        model_info={key: value for key, value in metadata.items() if key != "tokenizer.chat_template"},
        capabilities=["embedding"] if makes_embeddings(path) else ["completion", "tools"],
        modified_at=as_time(path.stat().st_mtime),
    )


def details(path: Path) -> Details:
    """What kind of model it is."""
    model = open_model(path)
    summary = summarize(path, model)
    types = summary.expert_types or summary.dense_types
    largest = max(types, key=types.__getitem__, default="")
    return Details(
        family=summary.architecture,
        families=[summary.architecture],
        parameter_size=_short(sum(prod(tensor.shape) for tensor in model.tensors)),
        quantization_level="pack " + ",".join(map(str, model.levels)) if model.levels else largest.upper(),
    )


def _path(service: Service, name: str) -> Path:
    """Raises ModelError where the file was deleted meanwhile."""
    path = Path(service.settings.models[name].path or default_model_path())
    if not path.exists():
        raise ModelError(f"{path} is not there any more: put the file back, or serve another model")
    return path


def _digest(path: Path) -> str:
    """Of name, size and time: hashing what the file holds would take minutes."""
    status = path.stat()
    return hashlib.sha256(f"{path.name} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()


def _short(count: int) -> str:
    """30532122624 is "30.5B"."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)
