"""The fields of the clients' requests, each with what becomes of it (see test_server_fields)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anthropic.types import MessageCountTokensParams, message_create_params
from ollama import _types as ollama_types
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from pydantic import BaseModel

from edgemoe.server import anthropic_types, openai_types
from edgemoe.server import ollama_types as our_ollama_types
from serving import MODEL, PROMPT, said

SCHEMA = {"type": "object", "properties": {"x": {"enum": [1, 2]}}, "required": ["x"]}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
TOOL = {"name": "f", "input_schema": SCHEMA}


@dataclass(frozen=True)
class Api:
    """The fields of one kind of request.

    `honoured`: a value that is taken, and one that is wrong. `accepted`: a value that changes nothing. `refused`: a
    value that is refused, and one that asks for nothing (None: leave the field out). A name with a dot is of a part of
    the body: "options.num_gpu".
    """

    path: str
    body: Mapping[str, Any]
    known: frozenset[str]
    model: type[BaseModel]
    additions: frozenset[str] = frozenset()
    honoured: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    accepted: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


def keys(kind: Any) -> frozenset[str]:
    """Of a TypedDict or a pydantic model of a client."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return frozenset(kind.model_fields)
    return frozenset(kind.__required_keys__ | kind.__optional_keys__)


DRAWN: dict[str, tuple[Any, Any]] = {
    "top_p": (0.9, 2),
    "frequency_penalty": (0.1, 3),
    "presence_penalty": (0.1, "much"),
    "seed": (1, 1.5),
    "stop": (["zzz"], 3),
}
OURS: dict[str, tuple[Any, Any]] = {"quality": ("exact", "nice"), "private": (True, "yes")}
SAMPLED = DRAWN | {
    "model": (MODEL, "gpt"),
    "max_tokens": (4, 0),
    "temperature": (0.5, 3),
    "top_k": (5, -1),
    "min_p": (0.1, 2),
    "repeat_penalty": (1.1, 0),
    "logit_bias": ({"5": 1}, {"five": 1}),
    "n": (1, 0),
    "stream": (False, "no"),
    "stream_options": (None, {"include_usage": True}),
}
ADDED = frozenset(("top_k", "min_p", "repeat_penalty", "quality", "private"))
CACHED = {"type": "ephemeral"}

APIS = [
    Api(
        "/v1/chat/completions",
        {"messages": said(PROMPT), "max_tokens": 4, "temperature": 0},
        keys(chat_create_params.CompletionCreateParamsStreaming),
        openai_types.ChatRequest,
        ADDED,
        SAMPLED
        | OURS
        | {
            "messages": (said("x"), []),
            "max_completion_tokens": (4, 5),
            "tools": ([FUNCTION], [{"type": "custom", "custom": {"name": "x"}}]),
            "tool_choice": ("none", "required"),
            "parallel_tool_calls": (False, 0),
            "response_format": ({"type": "text"}, {"type": "json_schema"}),
            "logprobs": (True, 1),
            "top_logprobs": (None, 2),
            "reasoning_effort": ("none", "high"),
        },
        {
            "user": "me",
            "metadata": {"a": "b"},
            "safety_identifier": "me",
            "prompt_cache_key": "k",
            "prompt_cache_options": {"mode": "explicit"},
            "prompt_cache_retention": "24h",
            "prediction": {"type": "content", "content": "Once"},
        },
        {
            "audio": ({"voice": "x", "format": "mp3"}, None),
            "modalities": (["text", "audio"], ["text"]),
            "functions": ([{"name": "f"}], []),
            "function_call": ("auto", None),
            "moderation": ({"model": "x"}, None),
            "service_tier": ("priority", "auto"),
            "store": (True, False),
            "verbosity": ("low", "medium"),
            "web_search_options": ({}, None),
        },
    ),
    Api(
        "/v1/completions",
        {"prompt": "Once upon a time", "max_tokens": 4, "temperature": 0},
        keys(completion_create_params.CompletionCreateParamsStreaming),
        openai_types.CompletionRequest,
        ADDED,
        SAMPLED | OURS | {"prompt": ("Once", []), "echo": (True, 1), "logprobs": (1, True), "best_of": (1, 3)},
        {"user": "me"},
        {"suffix": ("The end.", "")},
    ),
    Api(
        "/v1/embeddings",
        {"model": "vectors", "input": "a dog"},
        keys(embedding_create_params.EmbeddingCreateParams),
        openai_types.EmbeddingRequest,
        honoured={
            "model": ("vectors", "gpt"),
            "input": (["a", "b"], []),
            "dimensions": (None, 7),
            "encoding_format": ("base64", "int8"),
        },
        accepted={"user": "me"},
    ),
    Api(
        "/v1/messages",
        {"model": MODEL, "messages": said(PROMPT), "max_tokens": 4, "temperature": 0},
        keys(message_create_params.MessageCreateParamsStreaming),
        anthropic_types.MessagesRequest,
        frozenset(("temperature", "top_p", "top_k", "quality", "private")),  # the API has more than the client
        OURS
        | {
            "model": (MODEL, "claude"),
            "messages": (said("x"), [*said("x"), {"role": "assistant", "content": "The"}]),
            "max_tokens": (4, 0),
            "system": ("Be kind.", [{"type": "image"}]),
            "tools": ([TOOL], [{"type": "web_search_20250305", "name": "web_search"}]),
            "tool_choice": ({"type": "none"}, {"type": "any"}),
            "stop_sequences": (["zzz"], "zzz"),
            "stream": (False, "no"),
            "temperature": (0.5, 2),
            "top_p": (0.9, 2),
            "top_k": (5, -1),
            "output_config": ({"format": {"type": "json_schema", "schema": SCHEMA}}, {"effort": "high"}),
            "thinking": ({"type": "disabled"}, {"type": "enabled", "budget_tokens": 1024}),
        },
        {
            "metadata": {"user_id": "me"},
            "cache_control": CACHED,
            "user_profile_id": "me",
            "workspace_id": "w",
        },
        {
            "container": ("c", None),
            "diagnostics": ({"previous_message_id": "m"}, None),
            "inference_geo": ("us", None),
            "service_tier": ("priority", "standard_only"),
            "speed": ("fast", "standard"),
        },
    ),
    Api(
        "/v1/messages/count_tokens",
        {"model": MODEL, "messages": said(PROMPT)},
        keys(MessageCountTokensParams),
        anthropic_types.CountRequest,
        honoured={
            "model": (MODEL, "claude"),
            "messages": (said("x"), []),
            "system": ("Be kind.", 3),
            "tools": ([TOOL], [{"type": "bash_20250124", "name": "bash"}]),
            "tool_choice": ({"type": "none"}, {"type": "tool"}),
            "output_config": ({}, {"format": {}}),
            "thinking": ({"type": "disabled"}, {"type": "adaptive"}),
        },
        accepted={"cache_control": CACHED, "user_profile_id": "me", "workspace_id": "w"},
        refused={"speed": ("fast", "standard")},
    ),
    Api(
        "/api/chat",
        {"model": MODEL, "messages": said(PROMPT), "stream": False, "options": {"num_predict": 4, "temperature": 0}},
        keys(ollama_types.ChatRequest),
        our_ollama_types.ChatRequest,
        frozenset(("private",)),
        {
            "model": (MODEL, "llama"),
            "messages": (said("x"), [{"role": "user", "content": "x", "images": ["eA=="]}]),
            "tools": ([FUNCTION], [{"type": "x"}]),
            "stream": (False, "no"),
            "format": ("json", "xml"),
            "options": ({"num_predict": 1}, {"num_predikt": 1}),
            "keep_alive": ("5m", "soon"),
            "think": (False, True),
            "logprobs": (True, 1),
            "top_logprobs": (None, 2),
            "private": (True, "yes"),
        },
    ),
    Api(
        "/api/generate",
        {"model": MODEL, "prompt": PROMPT, "stream": False, "options": {"num_predict": 4, "temperature": 0}},
        keys(ollama_types.GenerateRequest),
        our_ollama_types.GenerateRequest,
        frozenset(("private",)),
        {
            "model": (MODEL, "llama"),
            "prompt": ("x", 3),
            "system": ("Be kind.", 3),
            "raw": (True, "yes"),
            "stream": (False, "no"),
            "format": (SCHEMA, "xml"),
            "options": ({"num_predict": 1}, {"num_predict": "1"}),
            "keep_alive": ("5m", "soon"),
            "think": (False, "high"),
            "logprobs": (True, 1),
            "top_logprobs": (None, 2),
            "private": (True, "yes"),
        },
        {},
        {
            "suffix": ("The end.", ""),
            "template": ("{{ .Prompt }}", ""),
            "context": ([1, 2], []),
            "images": (["eA=="], []),
            "width": (64, None),
            "height": (64, None),
            "steps": (3, None),
        },
    ),
    Api(
        "/api/embed",
        {"model": "vectors", "input": "a dog"},
        keys(ollama_types.EmbedRequest),
        our_ollama_types.EmbedRequest,
        honoured={
            "model": ("vectors", "llama"),
            "input": (["a", "b"], []),
            "truncate": (True, "yes"),
            "dimensions": (None, 7),
            "options": ({"num_ctx": 64}, {"num_ctx": "64"}),
            "keep_alive": ("5m", "soon"),
        },
    ),
    Api(
        "/api/show",
        {"model": MODEL},
        keys(ollama_types.ShowRequest),
        our_ollama_types.ShowRequest,
        frozenset(("name", "verbose")),  # the client's are not all
        honoured={"model": (MODEL, "llama"), "name": (MODEL, 3)},
        refused={"verbose": (True, False)},
    ),
]

OPTIONS = Api(
    "/api/chat",
    {"model": MODEL, "messages": said(PROMPT), "stream": False, "options": {"num_predict": 4, "temperature": 0}},
    keys(ollama_types.Options),
    our_ollama_types.Options,
    frozenset(("min_p", "quality")),
    DRAWN
    | {
        "temperature": (0.5, -1),
        "top_k": (5, -1),
        "min_p": (0.1, 2),
        "typical_p": (0.9, 2),
        "repeat_penalty": (1.1, 0),
        "repeat_last_n": (-1, -2),
        "num_predict": (4, "4"),
        "num_ctx": (100, "100"),
        "quality": ("exact", "nice"),
    },
    {
        "f16_kv": True,
        "low_vram": True,
        "main_gpu": 1,
        "num_batch": 8,
        "num_gpu": 99,
        "num_thread": 3,
        "numa": True,
        "use_mlock": True,
        "use_mmap": True,
        "num_keep": 5,
        "mirostat_eta": 0.2,
        "mirostat_tau": 3.0,
    },
    {
        "mirostat": (1, 0),
        "penalize_newline": (False, True),
        "tfs_z": (0.5, 1.0),
        "embedding_only": (True, False),
        "logits_all": (True, False),
        "vocab_only": (True, False),
    },
)
ALL = [*APIS, OPTIONS]
