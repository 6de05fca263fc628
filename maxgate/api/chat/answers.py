"""Chat completions as OpenAI spells them: what is answered.

Shapes follow `CreateChatCompletionResponse` in OpenAI's published API description.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from maxgate import ids
from maxgate.api.usage import CompletionUsage
from maxgate.generation.collect import Answer, CalledTool
from maxgate.generation.events import Alternative, FinishReason, TokenLogprob


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """What is to be called; `arguments` is JSON in a string."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallItem:
    """A call that the model makes."""

    id: str = field(default_factory=ids.tool_call_id)
    type: Literal["function"] = "function"
    function: FunctionCall


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantMessage:
    """What the model said; `content` is null where it only called tools."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallingMessage:
    """What the model said, and the tools that it calls."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCallItem]


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """A token and how likely it was."""

    token: str
    logprob: float
    bytes: list[int]


@dataclass(frozen=True, slots=True)
class ContentLogprob:
    """A token of the answer, and what else might have stood in its place."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


@dataclass(frozen=True, slots=True)
class ChoiceLogprobs:
    """The tokens of an answer."""

    content: list[ContentLogprob]
    refusal: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One answer."""

    index: int
    message: AssistantMessage | CallingMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCompletionResponse:
    """A whole answer; `created` is in seconds since 1970."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    service_tier: Literal["default"] = "default"
    system_fingerprint: None = None
    choices: list[Choice]
    usage: CompletionUsage


def choice(index: int, answer: Answer, *, logprobs: bool) -> Choice:
    """An answer as OpenAI shows it."""
    return Choice(
        index=index,
        message=_message(answer),
        logprobs=logprobs_of(answer.logprobs) if logprobs else None,
        finish_reason=answer.finish_reason,
    )


def _message(answer: Answer) -> AssistantMessage | CallingMessage:
    if not answer.tool_calls:
        return AssistantMessage(content=answer.text)
    return CallingMessage(content=answer.text or None, tool_calls=_calls(answer.tool_calls))


def _calls(calls: Sequence[CalledTool]) -> list[ToolCallItem]:
    return [ToolCallItem(function=FunctionCall(call.name, call.arguments)) for call in calls]


def logprobs_of(tokens: Sequence[TokenLogprob]) -> ChoiceLogprobs:
    """The tokens as OpenAI shows them; `bytes` are those of the token's text in UTF-8."""
    return ChoiceLogprobs([_token(token) for token in tokens])


def _token(token: TokenLogprob) -> ContentLogprob:
    shown = _alternative(Alternative(token.token, token.logprob))
    top = [_alternative(alternative) for alternative in token.top]
    return ContentLogprob(shown.token, shown.logprob, shown.bytes, top)


def _alternative(alternative: Alternative) -> TopLogprob:
    token = alternative.token
    return TopLogprob(token, alternative.logprob, list(token.encode()))
