"""Models on this machine and where to get them: short names, what was pulled, downloads from the Hugging Face Hub."""

from edgemoe.hub.names import mark_used, model_names, resolve

__all__ = ["mark_used", "model_names", "resolve"]
