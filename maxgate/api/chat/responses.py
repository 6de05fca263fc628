"""OpenAI's chat completion response.

Shapes follow `CreateChatCompletionResponse` in OpenAI's API description. They are dictionaries,
which orjson serializes several times faster than objects.
"""

from collections.abc import Sequence
from typing import Literal

from typing_extensions import TypedDict

from maxgate import ids
from maxgate.api.sampling import CompletionUsage
from maxgate.generation.chunk import (
    REPLACEMENT_CHARACTER,
    Alternative,
    FinishReason,
    TokenLogprob,
)
from maxgate.generation.collect import CalledTool, CompletedChoice
from maxgate.generation.context import ServiceClass


class FunctionCall(TypedDict):
    """The called function; `arguments` is JSON in a string."""

    name: str
    arguments: str


class ToolCallItem(TypedDict):
    """A tool call made by the model."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AssistantMessage(TypedDict):
    """The model's message."""

    role: Literal["assistant"]
    content: str | None
    refusal: None


class CallingMessage(AssistantMessage):
    """A message with tool calls; `content` is null if it has no text."""

    tool_calls: list[ToolCallItem]


class TopLogprob(TypedDict):
    """A token and its log probability.

    `bytes` may be part of a character, and is null for a part whose bytes are unknown.
    """

    token: str
    logprob: float
    bytes: list[int] | None


class ContentLogprob(TopLogprob):
    """A generated token and its most likely alternatives."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(TypedDict):
    """The tokens of a choice."""

    content: list[ContentLogprob]
    refusal: None


class Choice(TypedDict):
    """One choice."""

    index: int
    message: AssistantMessage | CallingMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason


class ChatCompletionResponse(TypedDict):
    """A complete response; `created` is in seconds since 1970.

    `service_tier` is the tier that was used, never `auto`.
    """

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    service_tier: ServiceClass
    system_fingerprint: None
    choices: list[Choice]
    usage: CompletionUsage


def convert_choice(index: int, choice: CompletedChoice, *, logprobs: bool) -> Choice:
    """Convert a finished choice to OpenAI's shape."""
    return {
        "index": index,
        "message": _convert_message(choice),
        "logprobs": convert_logprobs(choice.logprobs) if logprobs else None,
        "finish_reason": choice.finish_reason,
    }


def _convert_message(choice: CompletedChoice) -> AssistantMessage | CallingMessage:
    if not choice.tool_calls:
        return {"role": "assistant", "content": choice.text, "refusal": None}
    return {
        "role": "assistant",
        "content": choice.text or None,
        "refusal": None,
        "tool_calls": [_convert_call(call) for call in choice.tool_calls],
    }


def _convert_call(call: CalledTool) -> ToolCallItem:
    function: FunctionCall = {"name": call.name, "arguments": call.arguments}
    return {"id": ids.tool_call_id(), "type": "function", "function": function}


def convert_logprobs(tokens: Sequence[TokenLogprob]) -> ChoiceLogprobs:
    """Convert token log probabilities to OpenAI's shape."""
    return {"content": [_convert_token(token) for token in tokens], "refusal": None}


def _convert_token(token: TokenLogprob) -> ContentLogprob:
    chosen = Alternative(token.token, token.logprob)
    top = [_convert_alternative(one, token.data if one == chosen else None) for one in token.top]
    return {**_convert_alternative(chosen, token.data), "top_logprobs": top}


def _convert_alternative(alternative: Alternative, data: bytes | None) -> TopLogprob:
    token, logprob = alternative
    if data is None and REPLACEMENT_CHARACTER not in token:
        data = token.encode()
    return {"token": token, "logprob": logprob, "bytes": None if data is None else list(data)}
