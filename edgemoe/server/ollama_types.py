"""What ollama's API takes and gives, as far as it is served. What else is sent is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from edgemoe.server.fields import MOST_MESSAGES, Accepted, Drawing, Function, Nothing, Number, Refused, Strict, wrong

Signed = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]

_MACHINE = Accepted("the server's own options say how models are loaded and computed")
_UNUSED = Accepted("it belongs to mirostat, which is off")
_NO_PICTURES = Refused("the model reads and writes text")


class Machine(Strict):
    """How a model is to be loaded and computed, which is the server's matter, and no answer depends on."""

    f16_kv: Annotated[bool | None, _MACHINE] = None
    low_vram: Annotated[bool | None, _MACHINE] = None
    main_gpu: Annotated[int | None, _MACHINE] = None
    num_batch: Annotated[int | None, _MACHINE] = None
    num_gpu: Annotated[int | None, _MACHINE] = None
    num_thread: Annotated[int | None, _MACHINE] = None
    numa: Annotated[bool | None, _MACHINE] = None
    use_mlock: Annotated[bool | None, _MACHINE] = None
    use_mmap: Annotated[bool | None, _MACHINE] = None
    num_keep: Annotated[int | None, Accepted("nothing of a prompt is cut off, and so all is kept")] = None


class Options(Machine, Drawing):
    """How an answer is drawn, and how long it may be; `quality` is an addition.

    `num_predict` below 1 is as many as fit. `num_ctx` limits prompt and answer together, where it is less than the
    server's --ctx. Penalties look at `repeat_last_n` tokens, 0 for none and -1 for all.
    """

    temperature: Annotated[Number, Field(ge=0, le=100)] | None = None
    typical_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    repeat_last_n: Annotated[int, Field(ge=-1, le=1 << 17)] | None = None
    num_predict: Signed | None = None
    num_ctx: Signed | None = None
    mirostat: Annotated[Literal[0] | None, Refused("there is no mirostat here: leave it out")] = None
    mirostat_eta: Annotated[float | None, _UNUSED] = None
    mirostat_tau: Annotated[float | None, _UNUSED] = None
    penalize_newline: Annotated[Literal[True] | None, Refused("newlines are tokens like others: leave it out")] = None
    tfs_z: Annotated[
        Annotated[float, Field(ge=1, le=1)] | None, Refused("there is no tail free sampling here: leave it out")
    ] = None
    embedding_only: Annotated[Literal[False] | None, Refused("the model makes text: leave it out")] = None
    logits_all: Annotated[Literal[False] | None, Refused("logprobs and top_logprobs tell of tokens")] = None
    vocab_only: Annotated[Literal[False] | None, Refused("models are loaded as a whole: leave it out")] = None


class CalledFunction(Strict):
    """A function with its arguments."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    index: Annotated[int | None, Accepted("calls are in order")] = None


class Call(Strict):
    """A function that the model has called."""

    id: str | None = None
    type: Annotated[Literal["function"] | None, Refused("tools are functions here")] = None
    function: CalledFunction


class Message(Strict):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: Annotated[Nothing, _NO_PICTURES] = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class Tool(Strict):
    """A tool: a function."""

    type: Annotated[Literal["function"] | None, Refused("describe the tool as a function")] = "function"
    function: Function


class AskRequest(Strict):
    """What chats and continuations have in common; `private` is an addition.

    `format` is "json" or a JSON schema; `think` says whether, or how hard, a model is to think whose template can be
    told so.
    """

    model: str
    stream: bool | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: Options | None = None
    keep_alive: Number | str | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    private: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> AskRequest:
        if self.top_logprobs and not self.logprobs:
            raise wrong("top_logprobs", f"{self.top_logprobs} needs log-probabilities: set logprobs to true")
        return self


class ChatRequest(AskRequest):
    """The body of /api/chat. Without messages the model is loaded, or unloaded where `keep_alive` is 0."""

    messages: Annotated[list[Message], Field(max_length=MOST_MESSAGES)] | None = None
    tools: list[Tool] | None = None


class GenerateRequest(AskRequest):
    """The body of /api/generate: one question, or with `raw` a text that is continued as it is."""

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    suffix: Annotated[Literal[""] | None, Refused("the model continues texts, it does not fill gaps")] = None
    template: Annotated[
        Literal[""] | None, Refused("the model has its own template; with raw the prompt goes as it is")
    ] = None
    context: Annotated[Nothing, Refused("send the conversation to /api/chat")] = None
    images: Annotated[Nothing, _NO_PICTURES] = None
    width: Annotated[None, _NO_PICTURES] = None
    height: Annotated[None, _NO_PICTURES] = None
    steps: Annotated[None, _NO_PICTURES] = None

    @model_validator(mode="after")
    def _raw_alone(self) -> GenerateRequest:
        if self.raw and self.system:
            raise wrong("system", "with raw the prompt goes as it is: put it there, or leave raw out")
        return self


class ShowRequest(Strict):
    """The body of /api/show. Older clients say `name`."""

    model: str | None = None
    name: str | None = None
    verbose: Annotated[Literal[False] | None, Refused("tokens and tensors are not listed: leave it out")] = None


class EmbedRequest(Strict):
    """The body of /api/embed. Without `truncate` a text that is too long is refused; `dimensions` may be the model's.

    Of the `options` only `num_ctx` matters, which limits a text: nothing is drawn.
    """

    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    truncate: bool | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    options: Options | None = None
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
