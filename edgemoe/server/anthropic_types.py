"""What Anthropic's API takes and gives, as far as it is served. Fields that are not listed are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from edgemoe.server.openai_types import Name, Number, Strict


class Block(Strict):
    """A part of a content: "text", "thinking", "tool_use" or "tool_result". Other parts are refused."""

    type: str
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = Field(default_factory=dict)
    tool_use_id: str = ""
    content: str | list[Block] | None = None


class Message(Strict):
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    content: str | list[Block]


class Tool(Strict):
    """A tool that may be called; `input_schema` is a JSON schema."""

    name: Name
    description: str | None = None
    input_schema: dict[str, Any] = Field(default_factory=dict)


class ToolChoice(Strict):
    """Whether a tool has to be called, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None


class CountRequest(Strict):
    """The body of /v1/messages/count_tokens."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    system: str | list[Block] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None


class JsonFormat(Strict):
    """The JSON schema that the answer has to have."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Strict):
    """The form of the answer."""

    format: JsonFormat | None = None


class MessagesRequest(CountRequest):
    """The body of /v1/messages; `quality` and `private` are additions."""

    max_tokens: Annotated[int, Field(ge=1)]
    stop_sequences: Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool | None = None
    temperature: Annotated[Number, Field(ge=0, le=1)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=1 << 31)] | None = None
    output_config: OutputConfig | None = None
    metadata: dict[str, Any] | None = None
    quality: str | Number | None = None
    private: bool | None = None


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
