"""The messages of OpenAI's chat completion request.

Shapes follow `ChatCompletionRequestMessage` in OpenAI's API description. Histories that other tools
have written hold more keys; docs/openai-compatibility.md lists those that are ignored.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticKnownError

from maxgate.api.schemas import RequestBody, Unsupported

MAX_PARTS: Final = 1_000
MAX_TOOLS: Final = 128

IGNORED_KEYS: Final = frozenset(
    {
        # Reasoning, which belongs to the turn that produced it.
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "reasoning_signature",
        "signature",
        "thinking",
        "thinking_blocks",
        "thought_signature",
        # Data of providers, SDKs and frameworks.
        "additional_kwargs",
        "extra_content",
        "provider_metadata",
        "provider_specific_fields",
        "providerMetadata",
        "providerOptions",
        "response_metadata",
        # Parts of the response that the message came from.
        "annotations",
        "citations",
        "finish_reason",
        "index",
        "logprobs",
        "model",
        "parsed",
        "parsed_arguments",
        "status",
        "stop_reason",
        "usage",
        "usage_metadata",
        # Bookkeeping of chat applications.
        "cache_control",
        "created",
        "created_at",
        "createdAt",
        "id",
        "metadata",
        "timestamp",
    }
)
"""Keys without effect, allowed in messages, their parts and their calls."""


def _check_ignored(name: str) -> str:
    if name not in IGNORED_KEYS:
        raise PydanticKnownError("extra_forbidden")
    return name


class HistoryItem(RequestBody):
    """A part of a history; besides its own fields, only IGNORED_KEYS are allowed."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[Annotated[str, AfterValidator(_check_ignored)], Any]


class TextPart(HistoryItem):
    """A text part of a message."""

    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: Unsupported = None


class RefusalPart(HistoryItem):
    """A refusal in an assistant message."""

    type: Literal["refusal"]
    refusal: str


Part = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class CalledFunction(HistoryItem):
    """The called function; `arguments` is JSON in a string."""

    name: FunctionName
    arguments: str


class MessageToolCall(HistoryItem):
    """A tool call in an assistant message; some tools leave `id` empty or repeat it."""

    id: Annotated[str, Field(max_length=256)]
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(HistoryItem):
    """One message; `developer` is an alias of `system`.

    `tool_calls` and `refusal` belong to assistant messages, `tool_call_id` to tool results.
    `prefix` and `partial` are other servers' names for continuing the last turn, which is not
    supported.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], Field(max_length=MAX_PARTS, fail_fast=True)] | None = None
    name: Annotated[str, Field(max_length=64)] | None = None
    refusal: str | None = None
    tool_calls: (
        Annotated[list[MessageToolCall], Field(max_length=MAX_TOOLS, fail_fast=True)] | None
    ) = None
    tool_call_id: Annotated[str, Field(max_length=256)] | None = None
    audio: Unsupported = None
    function_call: Unsupported = None
    prefix: Literal[False] | None = None
    partial: Literal[False] | None = None
