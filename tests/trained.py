"""The default model in F16, which stock llama.cpp reads: the source of the pack, or what the pack makes of it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from edgemoe.default_model import default_model_path
from edgemoe.packs.unpack import unpack

_SOURCE = Path(__file__).resolve().parents[2] / "shared/models/tinystories-moe-f16.gguf"


@cache
def f16_model_path() -> Path:
    """The file beside the checkout, or one that is unpacked from the default model and removed in the end."""
    if _SOURCE.exists():
        return _SOURCE
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    path = Path(folder, _SOURCE.name)
    unpack(default_model_path(), None, path, type_="F16")
    return path
