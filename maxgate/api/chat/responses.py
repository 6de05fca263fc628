"""Chat completions as OpenAI spells them: what is answered.

Shapes follow `CreateChatCompletionResponse` in OpenAI's published API description. They are
dictionaries, which orjson writes several times faster than objects.
"""

from collections.abc import Sequence
from typing import Literal

from typing_extensions import TypedDict

from maxgate import ids
from maxgate.api.schemas import CompletionUsage
from maxgate.generation.chunk import Alternative, FinishReason, TokenLogprob
from maxgate.generation.collect import CalledTool, CompletedChoice


class FunctionCall(TypedDict):
    """What is to be called; `arguments` is JSON in a string."""

    name: str
    arguments: str


class ToolCallItem(TypedDict):
    """A call that the model makes."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AssistantMessage(TypedDict):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: None


class CallingMessage(AssistantMessage):
    """What the model said, and the tools that it calls; `content` is null where it said nothing."""

    tool_calls: list[ToolCallItem]


class TopLogprob(TypedDict):
    """A token and how likely it was."""

    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(TopLogprob):
    """A token of the answer, and what else might have stood in its place."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(TypedDict):
    """The tokens of an answer."""

    content: list[ContentLogprob]
    refusal: None


class Choice(TypedDict):
    """One answer."""

    index: int
    message: AssistantMessage | CallingMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason


class ChatCompletionResponse(TypedDict):
    """A whole answer; `created` is in seconds since 1970."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    service_tier: Literal["default"]
    system_fingerprint: None
    choices: list[Choice]
    usage: CompletionUsage


def choice(index: int, answer: CompletedChoice, *, logprobs: bool) -> Choice:
    """An answer as OpenAI shows it."""
    return {
        "index": index,
        "message": _message(answer),
        "logprobs": logprobs_of(answer.logprobs) if logprobs else None,
        "finish_reason": answer.finish_reason,
    }


def _message(answer: CompletedChoice) -> AssistantMessage | CallingMessage:
    if not answer.tool_calls:
        return {"role": "assistant", "content": answer.text, "refusal": None}
    return {
        "role": "assistant",
        "content": answer.text or None,
        "refusal": None,
        "tool_calls": [_call(call) for call in answer.tool_calls],
    }


def _call(call: CalledTool) -> ToolCallItem:
    function: FunctionCall = {"name": call.name, "arguments": call.arguments}
    return {"id": ids.tool_call_id(), "type": "function", "function": function}


def logprobs_of(tokens: Sequence[TokenLogprob]) -> ChoiceLogprobs:
    """The tokens as OpenAI shows them; `bytes` are those of the token's text in UTF-8."""
    return {"content": [_token(token) for token in tokens], "refusal": None}


def _token(token: TokenLogprob) -> ContentLogprob:
    shown = _alternative(Alternative(token.token, token.logprob))
    return {**shown, "top_logprobs": [_alternative(one) for one in token.top]}


def _alternative(alternative: Alternative) -> TopLogprob:
    token = alternative.token
    return {"token": token, "logprob": alternative.logprob, "bytes": list(token.encode())}
