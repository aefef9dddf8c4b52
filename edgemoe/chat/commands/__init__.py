"""The slash commands of the interactive chat: the same for one model and with a router."""

from edgemoe.chat.commands import conversation, model, router
from edgemoe.chat.commands.registry import COMMANDS, Command, run_command

__all__ = ["COMMANDS", "Command", "conversation", "model", "router", "run_command"]
