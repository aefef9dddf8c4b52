"""The model that was trained, in F16, which stock llama.cpp reads."""

from __future__ import annotations

from pathlib import Path

from edgemoe.default_model import default_model_path


def f16_model_path() -> Path:
    return default_model_path()
