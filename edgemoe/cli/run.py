"""`edgemoe run`: another name for `edgemoe chat`."""

from __future__ import annotations

import copy

from edgemoe.cli import chat

command = copy.copy(chat.command)
command.short_help = "The same as chat."
