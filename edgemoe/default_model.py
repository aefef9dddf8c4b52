"""What comes with edgemoe in its folder of models: the small model, a text to calibrate with, and the prompt router."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from edgemoe.errors import ModelError


def default_model_path() -> Path:
    """The GGUF file to use when none is named.

    Raises:
        ModelError: when this installation came without one.
    """
    return _find("*.gguf", "default model: name a GGUF file")


def calibration_text_path() -> Path:
    """The English prose to calibrate with when no text is named.

    Raises:
        ModelError: when this installation came without one.
    """
    return _find("calibration.txt", "text to calibrate with: name one")


def router_path() -> Path:
    """The prompt router to use when none is named.

    Raises:
        ModelError: when this installation came without one.
    """
    return _find("router.onnx", "prompt router: name one, or make it with edgemoe route train")


def prompts_path() -> Path:
    """Prompts that stand for those of a user who names none, as JSON lines.

    Raises:
        ModelError: when this installation came without them.
    """
    return _find("prompts.jsonl", "prompts to calibrate with: name a file of them")


def _find(pattern: str, what: str) -> Path:
    """In the installed package, or beside it in a checkout."""
    package = Path(str(resources.files("edgemoe")))
    folders = (package / "models", package.parent / "models")
    for folder in folders:
        if found := sorted(folder.glob(pattern)):
            return found[0]
    raise ModelError(f"{folders[0]} of this installation has no {what}")
