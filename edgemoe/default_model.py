"""The small model that comes with edgemoe."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from edgemoe.errors import ModelError


def default_model_path() -> Path:
    """The GGUF file to use when none is named: in the installed package, or beside it in a checkout.

    Raises:
        ModelError: when this installation came without one.
    """
    package = Path(str(resources.files("edgemoe")))
    folders = (package / "models", package.parent / "models")
    for folder in folders:
        if found := sorted(folder.glob("*.gguf")):
            return found[0]
    raise ModelError(f"this installation has no default model in {folders[0]}: name a GGUF file")
