"""Functions that a model may call: how it is told of them, and how its calls are read."""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edgemoe.conversation import Message
from edgemoe.server.errors import RequestError
from edgemoe.server.grammar import grammar_of
from edgemoe.server.requests import Piece, Request, TokenLogprob, ToolCall

BEGIN, END = "<tool_call>", "</tool_call>"
"""Around each call in the text of models that were trained on the format of Hermes: Qwen and many others."""

_TOLD = """You may call functions. These are available, as JSON schemas:

{schemas}

To call one, answer with nothing but a JSON object with its name and arguments inside tags:
<tool_call>
{{"name": "NAME", "arguments": {{...}}}}
</tool_call>"""


def told(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The conversation with a system message that describes `tools`, for chat templates that know nothing of tools."""
    text = _TOLD.format(schemas="\n".join(json.dumps(tool["function"]) for tool in tools))
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def check(request: Request) -> None:
    """Raises RequestError where tools, choice and form exclude each other."""
    names = Counter(tool["function"]["name"] for tool in request.tools)
    if twice := [name for name, count in names.items() if count > 1]:
        raise RequestError(f"tools: there are two of the name {twice[0]!r}: give them different ones", param="tools")
    if not request.tools and request.tool not in ("auto", "none"):
        wanted = "required" if request.tool == "any" else request.tool
        raise RequestError(f"tool_choice: {wanted!r} needs tools: send them, or leave it out", param="tool_choice")
    if request.tools and request.tool == "auto" and request.schema is not None:
        raise RequestError(
            "tools: an answer cannot both have a form and be a call that the model may choose: leave out one of them, "
            "or set tool_choice",
            param="tools",
        )


def strict_calls(request: Request) -> str | None:
    """The grammar (GBNF) of what follows BEGIN in an answer, where the model may call functions that are strict."""
    functions = [tool["function"] for tool in request.tools]
    if request.tool != "auto" or not any(function.get("strict") for function in functions):
        return None
    schemas = [
        _call_schema(function["name"], (function.get("parameters") or {}) if function.get("strict") else {})
        for function in functions
    ]
    call = grammar_of({"anyOf": schemas} if len(schemas) > 1 else schemas[0])
    named = re.sub(r"^root ::=", "one-call ::=", call, flags=re.MULTILINE)
    block = f'[ \\n]? one-call [ \\n]? "{END}"'
    more = f' ([ \\n]? "{BEGIN}" {block})*' if request.parallel else ""
    return f"{named}\nroot ::= {block}{more}\n"


def forced(request: Request) -> tuple[str | None, Mapping[str, Any] | None]:
    """What the request makes the model answer with, if it names a tool or wants one of them called.

    Either the function's name and the schema of its arguments, or None and a schema of calls; (None, None) otherwise.
    """
    if not request.tools or request.tool in ("auto", "none"):
        return None, None
    named = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in request.tools}
    if request.tool != "any":
        if request.tool not in named:
            raise RequestError(f"there is no tool {request.tool!r} to choose: {', '.join(named)}", param="tool_choice")
        return request.tool, named[request.tool]
    if len(named) == 1:
        return next(iter(named.items()))
    return None, {"anyOf": [_call_schema(name, arguments) for name, arguments in named.items()]}


def _call_schema(name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": arguments or {"type": "object"}},
        "required": ["name", "arguments"],
    }


class ToolReader:
    """Turns the pieces of an answer's text into those with tool calls.

    `name`: all of the text is the arguments of this function. `whole`: all of it is one call. Otherwise calls stand
    between tags, and other text is text; what stands between tags but is no call stays text, too.
    """

    def __init__(self, name: str | None = None, *, whole: bool = False) -> None:
        self._name, self._whole = name, whole
        self._held = ""
        self._inside = False
        self._calls = 0
        self._logprobs: tuple[TokenLogprob, ...] = ()  # they come with the last piece

    def read(self, piece: Piece) -> list[Piece]:
        """What `piece` becomes, with what was held back before it."""
        if piece.thought:
            return [piece]
        self._held += piece.text
        self._logprobs += piece.logprobs
        last = piece.finish_reason is not None
        if not last:
            return self._tagged(last) if self._name is None and not self._whole else []
        found = self._forced() if self._name is not None or self._whole else self._tagged(last)
        reason = "tool_calls" if self._calls and piece.finish_reason == "stop" else piece.finish_reason
        return [*found, Piece(logprobs=self._logprobs, finish_reason=reason, stop=piece.stop)]

    def _forced(self) -> list[Piece]:
        """The whole answer is a call; one that was cut off may be half a JSON, which is passed on as it is."""
        call = new_call(self._name, self._held) if self._name is not None else _parsed(self._held)
        if call is None:
            return [Piece(self._held)]
        self._calls += 1
        return [Piece(tool_call=call)]

    def _tagged(self, last: bool) -> list[Piece]:
        found: list[Piece] = []
        while True:
            mark = END if self._inside else BEGIN
            text, tag, rest = self._held.partition(mark)
            if not tag:
                break
            self._held = rest
            found += self._call(text) if self._inside else [Piece(text)] if text.strip() else []
            self._inside = not self._inside
        if self._inside:
            if last:  # some models leave out the end
                found += self._call(self._held)
                self._held = ""
            return found
        keep = 0 if last else _overlap(self._held, BEGIN)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return [*found, Piece(shown)] if shown else found

    def _call(self, text: str) -> list[Piece]:
        call = _parsed(text)
        if call is None:
            return [Piece(f"{BEGIN}{text}{END}")]
        self._calls += 1
        return [Piece(tool_call=call)]


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` that `mark` begins with."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if mark.startswith(text[-n:])), 0)


def new_call(name: str, arguments: str) -> ToolCall:
    """A call with an id of its own."""
    return ToolCall(f"call_{secrets.token_hex(12)}", name, arguments)


def _parsed(text: str) -> ToolCall | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    arguments = found.get("arguments", found.get("parameters", {}))
    return new_call(found["name"], arguments if isinstance(arguments, str) else json.dumps(arguments))
