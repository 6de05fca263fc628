"""Chat completions as OpenAI spells them.

Shapes follow `CreateChatCompletionRequest` and its answers in OpenAI's published API description.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from maxgate.api.wire import Metadata, NotServed, RequestBody, StopStrings
from maxgate.generation.events import FinishReason

_MAX_MESSAGES: Final = 10_000
_MAX_PARTS: Final = 1_000


class TextPart(RequestBody):
    """A piece of a message's text."""

    type: Literal["text"]
    text: str


class ChatMessage(RequestBody):
    """One turn of the dialogue; `developer` is another word for `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=_MAX_PARTS)]


class StreamOptions(RequestBody):
    """What a stream brings beside the answer."""

    include_usage: bool | None = None


class ChatCompletionRequest(RequestBody):
    """A dialogue to be continued; `model` may be left out, the default model answers then."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=_MAX_MESSAGES)]
    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopStrings | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    metadata: Metadata | None = None
    n: Literal[1] | None = None

    audio: NotServed = None
    frequency_penalty: NotServed = None
    function_call: NotServed = None
    functions: NotServed = None
    logit_bias: NotServed = None
    logprobs: NotServed = None
    modalities: NotServed = None
    parallel_tool_calls: NotServed = None
    prediction: NotServed = None
    presence_penalty: NotServed = None
    prompt_cache_key: NotServed = None
    reasoning_effort: NotServed = None
    response_format: NotServed = None
    safety_identifier: NotServed = None
    service_tier: NotServed = None
    store: NotServed = None
    tool_choice: NotServed = None
    tools: NotServed = None
    top_logprobs: NotServed = None
    verbosity: NotServed = None
    web_search_options: NotServed = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantMessage:
    """What the model said."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One answer."""

    index: int
    message: AssistantMessage
    logprobs: None = None
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class PromptTokensDetails:
    """Of the prompt's tokens, those that the engine had in its prefix cache."""

    cached_tokens: int


@dataclass(frozen=True, slots=True)
class CompletionUsage:
    """Tokens counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCompletionResponse:
    """A whole answer; `created` is in seconds since 1970."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: None = None
    choices: list[Choice]
    usage: CompletionUsage
