"""The tokens that a conversation becomes, from the model's own chat handler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgemoe.errors import ModelError

Message = dict[str, str]


def prompt_tokens(llm: Any, messages: Sequence[Message]) -> list[int]:
    """The prompt that `llm.create_chat_completion(messages)` would evaluate, without evaluating it.

    Raises:
        ModelError: when the model's chat template refuses the messages.
    """
    import llama_cpp
    from jinja2 import TemplateError

    recorder: Any = _Recorder(llm)
    try:
        llama_cpp.Llama.create_chat_completion(recorder, messages=list(messages))
    except _Rendered as rendered:
        return rendered.tokens
    except (TemplateError, ValueError) as error:
        raise ModelError(f"the model's chat template refuses this conversation: {error}") from error
    raise AssertionError("a chat handler asks for a completion")


def use_own_template(llm: Any) -> None:
    """Make `llm` use the chat template of its file, where llama-cpp-python prefers a similar one of its own.

    Its ChatML, for one, puts an empty system message before conversations that have none.
    """
    if "tokenizer.chat_template" in llm.metadata:
        llm.chat_format = "chat_template.default"


class _Rendered(BaseException):
    """Leaves a chat handler where it has its prompt. Not an Exception, so that no handler keeps it."""

    def __init__(self, tokens: list[int]):
        self.tokens = tokens


class _Recorder:
    """Stands for a model in a chat handler: tokenizes as the model does and completes nothing."""

    def __init__(self, llm: Any):
        self._llm = llm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    def create_completion(self, prompt: str | list[int], **_: Any) -> None:
        if isinstance(prompt, str):
            prompt = self._llm.tokenize(prompt.encode(), add_bos=True, special=True)
        raise _Rendered(prompt)
