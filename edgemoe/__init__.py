"""edgemoe: Mixture-of-Experts models bigger than your memory, on llama.cpp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgemoe.errors import (
    BudgetError,
    Cancelled,
    CloudError,
    ConfigError,
    DownloadError,
    EdgeMoEError,
    ModelError,
    ReadError,
    VersionError,
    WriteError,
)

if TYPE_CHECKING:
    from edgemoe.assistant import Assistant
    from edgemoe.config import Config
    from edgemoe.experts.stats import Stats
    from edgemoe.llama import Llama
    from edgemoe.routing.policy import Decision
    from edgemoe.routing.router import Classification, Router

__version__ = "0.1.0"
__all__ = [
    "Assistant",
    "BudgetError",
    "Cancelled",
    "Classification",
    "CloudError",
    "Config",
    "ConfigError",
    "Decision",
    "DownloadError",
    "EdgeMoEError",
    "Llama",
    "ModelError",
    "ReadError",
    "Router",
    "Stats",
    "VersionError",
    "WriteError",
]

_LAZY = {
    "Assistant": "edgemoe.assistant",
    "Classification": "edgemoe.routing.router",
    "Config": "edgemoe.config",
    "Decision": "edgemoe.routing.policy",
    "Llama": "edgemoe.llama",
    "Router": "edgemoe.routing.router",
    "Stats": "edgemoe.experts.stats",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    if name == "Llama":
        from edgemoe.experts import library

        library.load()  # says what is wrong with an installation, where an import would only fail
    return getattr(importlib.import_module(_LAZY[name]), name)
