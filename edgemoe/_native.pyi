"""The native module is internal: its names are not checked."""

from typing import Any

def __getattr__(name: str) -> Any: ...
