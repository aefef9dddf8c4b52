"""What OpenAI's API takes and gives, as far as it is served. Fields that are not listed are ignored, as there."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MOST_CHOICES = 16
Number = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
Stop = str | Annotated[list[str], Field(max_length=16)] | None


class Strict(BaseModel):
    """A body whose values have to be of the right type: "1" is no number, half a character is no text."""

    model_config = ConfigDict(strict=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _whole_characters(cls, body: Any) -> Any:
        if (half := _half(body)) is not None:
            raise ValueError(f"\\u{ord(half):04x} is half of a surrogate pair, and no character: send both halves")
        return body


def _half(value: Any) -> str | None:
    """Half of a surrogate pair that stands alone in a JSON value, which UTF-8 has no bytes for."""
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, str):
            try:
                part.encode()
            except UnicodeEncodeError as error:
                return part[error.start]
        elif isinstance(part, dict):
            left += [*part, *part.values()]
        elif isinstance(part, list):
            left += part
    return None


class TextPart(Strict):
    """A part of a content. Only those with text can be used."""

    type: str
    text: str = ""


class CalledFunction(Strict):
    """A function with its arguments, which are JSON."""

    name: str
    arguments: str


class Call(Strict):
    """A function that the model has called."""

    id: str = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Strict):
    """One message of a conversation; `reasoning_content` is what the model thought before it answered."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    reasoning_content: str | None = None
    name: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None


class Function(Strict):
    """A function that may be called; `parameters` is a JSON schema."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(Strict):
    """A tool: a function."""

    type: Literal["function"]
    function: Function


class FunctionName(Strict):
    """Names a function."""

    name: str


class ToolChoice(Strict):
    """The tool that has to be called."""

    type: Literal["function"]
    function: FunctionName


class JsonSchema(Strict):
    """A schema and its name."""

    name: str = ""
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")


class ResponseFormat(Strict):
    """The form of the answer. "json_object" takes a `schema` too, as llama.cpp's server does."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class StreamOptions(Strict):
    """What a stream has beside the answer."""

    include_usage: bool | None = None


class SampledRequest(Strict):
    """What chats and completions have in common.

    `top_k`, `min_p`, `repeat_penalty`, `quality` and `private` are additions.
    """

    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=1 << 31)] | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[Number, Field(gt=0, le=100)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")], Number] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: Stop = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    quality: str | Number | None = None
    private: bool | None = None
    user: str | None = None


class ChatRequest(SampledRequest):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


Tokens = Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(min_length=1)]


class CompletionRequest(SampledRequest):
    """The body of /v1/completions: one prompt or several, each a text or tokens."""

    prompt: str | Tokens | Annotated[list[str] | list[Tokens], Field(min_length=1, max_length=MOST_CHOICES)]
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class EmbeddingRequest(Strict):
    """The body of /v1/embeddings."""

    model: str | None = None
    input: str | Tokens | Annotated[list[str] | list[Tokens], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


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
