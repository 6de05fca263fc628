"""Text completions as OpenAI spells them.

Shapes follow `CreateCompletionRequest` and its answers in OpenAI's published API description.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, Tag

from maxgate.api.sampling import SampledRequest, TokenLimit
from maxgate.api.schemas import CompletionUsage, NothingIn, NotServed, input_kind
from maxgate.generation.chunk import FinishReason

MAX_PROMPTS: Final = 128
_MOST_TOKENS: Final = 2**20
_DEFAULT_MAX_TOKENS: Final = 16

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TextPrompt = Annotated[str, Field(min_length=1)]
# Arrays end at the first error: items that are wrong do not count towards the greatest length.
TokenPrompt = Annotated[list[TokenId], Field(min_length=1, max_length=_MOST_TOKENS, fail_fast=True)]
_Several = Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)
Prompt = Annotated[
    Annotated[TextPrompt, Tag("a-text")]
    | Annotated[list[TextPrompt], _Several, Tag("some-texts")]
    | Annotated[TokenPrompt, Tag("token-ids")]
    | Annotated[list[TokenPrompt], _Several, Tag("token-arrays")],
    Discriminator(input_kind),
]
"""One text or several, or the token ids of one or several; the tags are no field names."""


class CompletionRequest(SampledRequest):
    """A text to be continued, or several; each as a string or as token ids."""

    prompt: Prompt
    max_tokens: TokenLimit | None = _DEFAULT_MAX_TOKENS
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    best_of: Literal[1] | None = None
    logit_bias: NothingIn | None = None
    suffix: NotServed = None


@dataclass(frozen=True, slots=True)
class TextLogprobs:
    """The tokens of a text; `text_offset` counts characters from the beginning of it."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextChoice:
    """One text, or a piece of one in a stream."""

    text: str
    index: int
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionResponse:
    """All texts, or in a stream a piece of one; `created` is in seconds since 1970."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: None = None
    choices: list[TextChoice]
    usage: CompletionUsage | None
