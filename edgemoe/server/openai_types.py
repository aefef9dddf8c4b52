"""What OpenAI's API takes and gives, as far as it is served. What else is sent is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator

from edgemoe.server.fields import MOST_MESSAGES, Accepted, Drawing, Function, Nothing, Number, Refused, Strict, wrong

MOST_CHOICES = 16

_CACHE = Accepted("what was computed is kept by itself")
_TEXT_ONLY = Refused("the model reads and writes text")
_OLD = Refused("use tools, tool_calls and tool_choice")


class TextPart(Strict):
    """A part of a content."""

    type: Annotated[Literal["text"], Refused("the model reads text, in parts of the type 'text'")]
    text: str
    prompt_cache_breakpoint: Annotated[dict[str, Any] | None, _CACHE] = None


class CalledFunction(Strict):
    """A function with its arguments, which are JSON."""

    name: str
    arguments: str


class Call(Strict):
    """A function that the model has called."""

    id: str = ""
    type: Annotated[Literal["function"], Refused("tools are functions here")] = "function"
    function: CalledFunction
    index: Annotated[int | None, Accepted("calls are in order")] = None


class ChatMessage(Strict):
    """One message of a conversation; `reasoning_content` is what the model thought before it answered."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    reasoning_content: str | None = None
    name: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    refusal: Annotated[None, Refused("send what the assistant said as content")] = None
    audio: Annotated[None, _TEXT_ONLY] = None
    function_call: Annotated[None, _OLD] = None
    annotations: Annotated[list[Any] | None, Accepted("they come back with what a client has received")] = None


class Tool(Strict):
    """A tool: a function."""

    type: Annotated[Literal["function"], Refused("describe the tool as a function")]
    function: Function


class FunctionName(Strict):
    """Names a function."""

    name: str


class ToolChoice(Strict):
    """The tool that has to be called."""

    type: Annotated[Literal["function"], Refused("name one function, or send only the tools that may be called")]
    function: FunctionName


class JsonSchema(Strict):
    """A schema and its name. The grammar makes every schema `strict`, and the model is not told its name."""

    name: Annotated[str, Accepted("a form is no part of the prompt")] = ""
    description: Annotated[str | None, Accepted("a form is no part of the prompt: say in it what you want")] = None
    strict: Annotated[bool | None, Accepted("every schema holds")] = None
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")


class ResponseFormat(Strict):
    """The form of the answer. "json_object" takes a `schema` too, as llama.cpp's server does."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")

    @model_validator(mode="after")
    def _agrees(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            raise wrong("json_schema", "the type 'json_schema' needs one: send it, or the type 'json_object'")
        if self.type != "json_schema" and self.json_schema is not None:
            raise wrong("json_schema", f"the type {self.type!r} has none: set the type to 'json_schema'")
        if self.type == "text" and self.schema_ is not None:
            raise wrong("schema", "the type 'text' has none: set the type to 'json_object'")
        return self


class StreamOptions(Strict):
    """What a stream has beside the answer."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[Literal[False] | None, Refused("events are not padded: leave it out")] = None


class SampledRequest(Drawing):
    """What chats and completions have in common.

    `top_k`, `min_p`, `repeat_penalty`, `quality` and `private` are additions.
    """

    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    logit_bias: dict[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")], Number] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    private: bool | None = None
    user: Annotated[str | None, Accepted("nothing is kept of who asks")] = None

    @model_validator(mode="after")
    def _stream_alone(self) -> SampledRequest:
        if self.stream_options is not None and not self.stream:
            raise wrong("stream_options", "they are of streams: set stream to true, or leave them out")
        return self


class ChatRequest(SampledRequest):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    metadata: Annotated[dict[str, Any] | None, Accepted("nothing is stored")] = None
    safety_identifier: Annotated[str | None, Accepted("nothing is kept of who asks")] = None
    prompt_cache_key: Annotated[str | None, _CACHE] = None
    prompt_cache_options: Annotated[dict[str, Any] | None, _CACHE] = None
    prompt_cache_retention: Annotated[str | None, _CACHE] = None
    prediction: Annotated[dict[str, Any] | None, Accepted("it would only save time")] = None
    audio: Annotated[None, _TEXT_ONLY] = None
    modalities: Annotated[list[Literal["text"]] | None, _TEXT_ONLY] = None
    functions: Annotated[Nothing, _OLD] = None
    function_call: Annotated[None, _OLD] = None
    moderation: Annotated[None, Refused("there is no moderation here: leave it out")] = None
    service_tier: Annotated[Literal["auto", "default"] | None, Refused("there is one tier: leave it out")] = None
    store: Annotated[Literal[False] | None, Refused("nothing is stored here: leave it out")] = None
    verbosity: Annotated[Literal["medium"] | None, Refused("say in the prompt how long the answer should be")] = None
    web_search_options: Annotated[None, Refused("the model searches nothing: leave it out")] = None

    @model_validator(mode="after")
    def _agrees(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise wrong("top_logprobs", f"{self.top_logprobs} needs log-probabilities: set logprobs to true")
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            both = f"{self.max_tokens}, and max_completion_tokens {self.max_completion_tokens}"
            raise wrong("max_tokens", f"{both}, are one limit: send one of them")
        return self


Tokens = Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(min_length=1)]


class CompletionRequest(SampledRequest):
    """The body of /v1/completions: one prompt or several, each a text or tokens."""

    prompt: str | Tokens | Annotated[list[str] | list[Tokens], Field(min_length=1, max_length=MOST_CHOICES)]
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    suffix: Annotated[Literal[""] | None, Refused("the model continues texts, it does not fill gaps")] = None

    @model_validator(mode="after")
    def _best_are_all(self) -> CompletionRequest:
        if self.best_of not in (None, self.n or 1):
            raise wrong("best_of", f"{self.best_of} cannot be used: all answers are given, ask for as many with n")
        return self


class EmbeddingRequest(Strict):
    """The body of /v1/embeddings. `dimensions` may be those that the model has."""

    model: str | None = None
    input: str | Tokens | Annotated[list[str] | list[Tokens], Field(min_length=1, max_length=2048)]
    dimensions: Annotated[int, Field(ge=1)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: Annotated[str | None, Accepted("nothing is kept of who asks")] = None


# Answers, for the documentation of the API


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int
    prompt_tokens_details: dict[str, int] | None = None


class Answer(BaseModel):
    """A whole answer, of a chat or a completion. `edgemoe` says who answered and why, where the router chose."""

    id: str
    object: Literal["chat.completion", "text_completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: Usage
    edgemoe: dict[str, Any] | None = None


class Model(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "edgemoe"
    loaded: bool = Field(default=False, description="Whether it is in memory.")


class ModelList(BaseModel):
    """All models that are served."""

    object: Literal["list"] = "list"
    data: list[Model]


class Embedding(BaseModel):
    """One text's embedding."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingList(BaseModel):
    """Embeddings, in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class ErrorDetail(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """Any error."""

    error: ErrorDetail
