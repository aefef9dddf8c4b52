"""What ollama's API takes and gives, as far as it is served. Fields that are not listed are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from edgemoe.server.openai_types import Function, Number, Stop, Strict

Signed = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]


class Options(Strict):
    """How an answer is drawn, and how long it may be; `quality` is an addition.

    `num_predict` below 1 is as many as fit. `num_ctx` limits prompt and answer together, where it is less than the
    server's --ctx.
    """

    temperature: Annotated[Number, Field(ge=0, le=100)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=1 << 31)] | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[Number, Field(gt=0, le=100)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    num_predict: Signed | None = None
    num_ctx: Signed | None = None
    stop: Stop = None
    quality: str | Number | None = None


class CalledFunction(Strict):
    """A function with its arguments."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class Call(Strict):
    """A function that the model has called."""

    id: str | None = None
    function: CalledFunction


class Message(Strict):
    """One message of a conversation. Images are refused."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None


class Tool(Strict):
    """A tool: a function."""

    type: Literal["function"] = "function"
    function: Function


class AskRequest(Strict):
    """What chats and continuations have in common; `private` is an addition.

    `format` is "json" or a JSON schema; `think` is ignored.
    """

    model: str
    stream: bool | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: Options | None = None
    keep_alive: Number | str | None = None
    private: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class ChatRequest(AskRequest):
    """The body of /api/chat. Without messages the model is loaded, or unloaded where `keep_alive` is 0."""

    messages: list[Message] = Field(default_factory=list)
    tools: list[Tool] | None = None


class GenerateRequest(AskRequest):
    """The body of /api/generate: one question, or with `raw` a text that is continued as it is."""

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    suffix: str | None = None
    template: str | None = None
    context: list[int] | None = None
    images: list[str] | None = None


class ShowRequest(Strict):
    """The body of /api/show. Older clients say `name`."""

    model: str | None = None
    name: str | None = None


class EmbedRequest(Strict):
    """The body of /api/embed."""

    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    keep_alive: Number | str | None = None


# Answers, for the documentation of the API


class Answer(BaseModel):
    """A part of an answer; the last one is `done` and has counts, and times in nanoseconds."""

    model: str
    created_at: str
    message: dict[str, Any] | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool
    done_reason: str | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    logprobs: list[dict[str, Any]] | None = None


class Embeddings(BaseModel):
    """Embeddings, in the order of the texts; times in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class Details(BaseModel):
    """What kind of model it is."""

    parent_model: str = ""
    format: str = "gguf"
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class Listed(BaseModel):
    """A model that is served. `size` is that of its files; `digest` changes when they do."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class ModelList(BaseModel):
    """All models that are served."""

    models: list[Listed]


class Loaded(BaseModel):
    """A model in memory: the bytes of its experts there, and when it will be unloaded if nobody uses it."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int = 0
    context_length: int


class LoadedList(BaseModel):
    """All models in memory."""

    models: list[Loaded]


class Shown(BaseModel):
    """What a model's file says of it."""

    modelfile: str
    parameters: str
    template: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class Version(BaseModel):
    """The version of ollama whose API this is, since programs ask for a least one; and that of edgemoe."""

    version: str
    edgemoe: str


class ErrorBody(BaseModel):
    """Any error."""

    error: str
