"""What Anthropic's API takes and gives, as far as it is served. What else is sent is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from edgemoe.server.fields import MOST_MESSAGES, Accepted, Name, Nothing, Number, Refused, Strict, TopK, TopP, wrong

_CACHE = Accepted("what was computed is kept by itself")
_OWN_TOOLS = Refused("only tools that you run yourself, of the type 'custom', can be offered")
_CALLER = Accepted("it comes back with what a client has received")


class Cached(Strict):
    """What may say that a prompt is kept up to here."""

    cache_control: Annotated[dict[str, Any] | None, _CACHE] = None


class Text(Cached):
    """A text."""

    type: Annotated[Literal["text"], Refused("the model reads text, in parts of the type 'text'")]
    text: str
    citations: Annotated[Nothing, Refused("the model knows no citations: leave them out")] = None
    parsed_output: Annotated[Any, _CALLER] = None


class Thought(Strict):
    """What the model has thought."""

    type: Literal["thinking"]
    thinking: str
    signature: Annotated[str | None, Accepted("thoughts are not signed here")] = None


class RedactedThought(Strict):
    """What another model has thought, which nobody here can read."""

    type: Literal["redacted_thinking"]
    data: Annotated[str, Accepted("only Anthropic can read it")] = ""


class ToolUse(Cached):
    """A tool that the model has called."""

    type: Literal["tool_use"]
    id: str = ""
    name: str
    input: dict[str, Any] = Field(default_factory=dict)
    caller: Annotated[dict[str, Any] | None, _CALLER] = None
    toolset_name: Annotated[None, _OWN_TOOLS] = None


class ToolResult(Cached):
    """What a tool has said. One that `is_error` is told as such."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[Text] | None = None
    is_error: bool | None = None
    toolset_name: Annotated[None, _OWN_TOOLS] = None


def _kind(block: Any) -> str | None:
    """The type of a part, before or after it was read."""
    found = block.get("type") if isinstance(block, dict) else getattr(block, "type", None)
    return found if isinstance(found, str) else None


_PARTS = ("text", "thinking", "redacted_thinking", "tool_use", "tool_result")
Block = Annotated[
    Annotated[Text, Tag("text")]
    | Annotated[Thought, Tag("thinking")]
    | Annotated[RedactedThought, Tag("redacted_thinking")]
    | Annotated[ToolUse, Tag("tool_use")]
    | Annotated[ToolResult, Tag("tool_result")],
    Discriminator(
        _kind,
        custom_error_type="kind",
        custom_error_message=f"the model reads text, and parts are of the types {', '.join(_PARTS)}",
    ),
]


class Message(Strict):
    """One message of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(Cached):
    """A tool that may be called; `input_schema` is a JSON schema. Calls of a `strict` one have it for certain."""

    type: Annotated[Literal["custom"] | None, _OWN_TOOLS] = None
    name: Name
    description: str | None = None
    input_schema: dict[str, Any] = Field(default_factory=dict)
    strict: bool | None = None
    eager_input_streaming: Annotated[bool | None, Accepted("calls come as a whole")] = None
    allowed_callers: Annotated[list[Literal["direct"]] | None, Refused("the model calls them: leave it out")] = None
    defer_loading: Annotated[Literal[False] | None, Refused("the model is told of all tools: leave it out")] = None
    input_examples: Annotated[Nothing, Refused("put them into the description")] = None


class ToolChoice(Strict):
    """Whether a tool has to be called, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Strict):
    """Whether the model thinks before it answers, where its template can be told so. Thoughts come as they are."""

    type: Annotated[
        Literal["adaptive", "disabled"],
        Refused("thoughts have no budget of their own: send 'adaptive' or 'disabled', max_tokens limits all"),
    ]
    display: Annotated[
        Literal["summarized"] | None, Refused("thoughts are not left out: skip the parts of the type 'thinking'")
    ] = None
    budget_tokens: Annotated[None, Refused("thoughts have no budget of their own: max_tokens limits all")] = None


class JsonFormat(Strict):
    """The JSON schema that the answer has to have."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Strict):
    """The form of the answer, and how hard the model is to think."""

    format: JsonFormat | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class CountRequest(Strict):
    """The body of /v1/messages/count_tokens."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    system: str | list[Text] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: Annotated[dict[str, Any] | None, _CACHE] = None
    user_profile_id: Annotated[str | None, Accepted("nothing is kept of who asks")] = None
    workspace_id: Annotated[str | None, Accepted("nothing is kept of who asks")] = None
    speed: Annotated[Literal["standard"] | None, Refused("there is one speed: leave it out")] = None

    @model_validator(mode="after")
    def _is_no_beginning(self) -> CountRequest:
        if self.messages[-1].role == "assistant":
            raise wrong("messages", "the last one is the assistant's, and answers are not continued: end with the user")
        return self


class MessagesRequest(CountRequest):
    """The body of /v1/messages; `quality` and `private` are additions."""

    max_tokens: Annotated[int, Field(ge=1)]
    stop_sequences: Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool | None = None
    temperature: Annotated[Number, Field(ge=0, le=1)] | None = None
    top_p: TopP = None
    top_k: TopK = None
    quality: str | Number | None = None
    private: bool | None = None
    metadata: Annotated[dict[str, Any] | None, Accepted("nothing is kept of who asks")] = None
    container: Annotated[None, Refused("no code is run here: leave it out")] = None
    diagnostics: Annotated[None, Refused("usage says what was computed before: leave it out")] = None
    inference_geo: Annotated[None, Refused("this server is where it is: leave it out")] = None
    service_tier: Annotated[Literal["auto", "standard_only"] | None, Refused("there is one tier: leave it out")] = None


# Answers, for the documentation of the API


class Usage(BaseModel):
    """Tokens of a request."""

    input_tokens: int
    output_tokens: int


class Answer(BaseModel):
    """A whole answer."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]
    stop_sequence: str | None
    usage: Usage


class TokenCount(BaseModel):
    """Tokens of a prompt."""

    input_tokens: int


class ErrorDetail(BaseModel):
    """What is wrong."""

    type: str
    message: str


class ErrorBody(BaseModel):
    """Any error."""

    type: Literal["error"]
    error: ErrorDetail
