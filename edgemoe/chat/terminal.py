"""The interactive chat: reads what the user types, and shows answers."""

from __future__ import annotations

from edgemoe.chat.chat import Chat, Leave, exchange
from edgemoe.chat.commands import run_command
from edgemoe.chat.commands.registry import is_command
from edgemoe.chat.prompt import Interrupted, PlainPrompt, Prompt, Typed
from edgemoe.errors import EdgeMoEError


def chat_loop(chat: Chat) -> None:
    """Answer what the user types until they leave."""
    prompt = Prompt(chat) if chat.screen.moves_cursor else PlainPrompt()
    warned = False
    while True:
        try:
            typed = prompt.read()
            warned = False
            _carry_out(chat, typed)
        except (Leave, EOFError):
            return
        except Interrupted as interrupted:
            if warned and interrupted.empty:
                return
            warned = True
            chat.screen.say("Ctrl-C again, Ctrl-D or /bye leaves.")
        except KeyboardInterrupt:
            chat.screen.say("(stopped)")
        except EdgeMoEError as error:
            chat.screen.say(str(error), style="red")


def show_end_of(chat: Chat) -> None:
    """Where a conversation that goes on had ended."""
    questions = chat.saved().questions
    if not questions:
        return
    chat.screen.say(f"This goes on after {len(questions)} message{'s' if len(questions) > 1 else ''} of yours:")
    chat.screen.say(f"You: {questions[-1]}")
    if last := chat.last_answer():
        chat.screen.markdown(last[1])


def _carry_out(chat: Chat, typed: Typed) -> None:
    if is_command(typed.text) and not typed.quoted:
        run_command(chat, typed.text)
    elif typed.text:
        exchange(chat, typed.text)
