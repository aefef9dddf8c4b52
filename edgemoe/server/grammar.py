"""JSON schemas as grammars, which make llama.cpp's samplers draw nothing else."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgemoe.server.errors import RequestError

_DEEPEST = 64
_LONGEST = 1 << 18
_LONGEST_GRAMMAR = 1 << 20
_DEEPEST_GRAMMAR = 1000
"""Of brackets in brackets, which is what maxLength and maxItems become: llama.cpp's parser calls itself for each, and
ends the process when its stack is full."""
_TEXTS = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]')


def grammar_of(schema: Mapping[str, Any]) -> str:
    """GBNF for the JSON values of `schema`; {} takes any object.

    Raises:
        RequestError: the schema is too large, refers to other documents, or has what cannot be made a grammar.
    """
    if not schema:
        return _any_object()
    _check(schema)
    text = json.dumps(schema)
    if len(text) > _LONGEST:
        raise RequestError(f"the schema has {len(text)} characters: at most {_LONGEST} are taken")
    return _cached(text)


@functools.lru_cache(maxsize=64)
def _cached(schema: str) -> str:
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        grammar = _strict(json_schema_to_gbnf(schema))
    except Exception as error:  # the converter raises whatever comes of a schema that is wrong
        raise RequestError(f"the schema cannot be used: {error!r}") from error
    _check_grammar(grammar)
    return grammar


def _check_grammar(grammar: str) -> None:
    if len(grammar) > _LONGEST_GRAMMAR:
        raise RequestError("the schema asks for too much of one thing: make minItems and minLength smaller")
    depth = deepest = 0
    for bracket in re.findall(r"[()]", _TEXTS.sub("", grammar)):
        depth += 1 if bracket == "(" else -1
        deepest = max(deepest, depth)
    if deepest > _DEEPEST_GRAMMAR:
        raise RequestError(
            f"the schema allows up to {deepest} of one thing: llama.cpp's grammars count to {_DEEPEST_GRAMMAR}, make "
            "maxItems and maxLength smaller, or leave them out"
        )


def _any_object() -> str:
    from llama_cpp.llama_grammar import JSON_GBNF

    return _strict(JSON_GBNF)


def _strict(grammar: str) -> str:
    """llama-cpp-python's grammars let line breaks and the like into strings, where JSON wants them escaped."""
    return grammar.replace(r'[^"\\]', r'[^"\\\x7F\x00-\x1F]')


def _check(schema: Any) -> None:
    """A `$ref` to elsewhere would be fetched by the converter, and what is too deep would overflow its stack."""
    for value, depth in _values(schema):
        if depth > _DEEPEST:
            raise RequestError(f"the schema is nested deeper than {_DEEPEST} levels")
        if isinstance(value, dict) and isinstance(ref := value.get("$ref"), str) and not ref.startswith("#"):
            raise RequestError(f"the schema refers to {ref!r}: only references inside it ('#/$defs/x') are used")


def _values(value: Any) -> Iterator[tuple[Any, int]]:
    todo: list[tuple[Any, int]] = [(value, 0)]
    while todo:
        found, depth = todo.pop()
        yield found, depth
        children: Sequence[Any] = ()
        if isinstance(found, dict):
            children = list(found.values())
        elif isinstance(found, list):
            children = found
        todo += [(child, depth + 1) for child in children]
