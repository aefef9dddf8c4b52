"""`Assistant`: the prompt router, local models and cloud endpoints as one that answers."""

from edgemoe.assistant.answer import Answer, AsyncAnswer
from edgemoe.assistant.assistant import Assistant

__all__ = ["Answer", "Assistant", "AsyncAnswer"]
