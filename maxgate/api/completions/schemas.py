"""OpenAI's completion request and response.

Shapes follow `CreateCompletionRequest` and its response in OpenAI's API description.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, Tag

from maxgate.api.sampling import CompletionUsage, SampledRequest, TokenId
from maxgate.api.schemas import EmptyObject, Unsupported, discriminate_input
from maxgate.generation.chunk import FinishReason

MAX_PROMPTS: Final = 128
_MAX_TOKENS: Final = 2**20

TextPrompt = Annotated[str, Field(min_length=1)]
# fail_fast: invalid items would otherwise not count towards max_length.
TokenPrompt = Annotated[list[TokenId], Field(min_length=1, max_length=_MAX_TOKENS, fail_fast=True)]
_SEVERAL = Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)
Prompt = Annotated[
    Annotated[TextPrompt, Tag("a-text")]
    | Annotated[list[TextPrompt], _SEVERAL, Tag("some-texts")]
    | Annotated[TokenPrompt, Tag("token-ids")]
    | Annotated[list[TokenPrompt], _SEVERAL, Tag("token-arrays")],
    Discriminator(discriminate_input),
]
"""One or several texts, or the token ids of one or several; tags are not field names."""


class CompletionRequest(SampledRequest):
    """One or several prompts, each a string or token ids.

    `max_tokens` defaults to 16, as at OpenAI. With `parse_special`, names of special tokens in a
    text become those tokens; the default is the model card's.
    """

    prompt: Prompt
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Literal[1] | None = None
    logit_bias: EmptyObject | None = None
    suffix: Unsupported = None
    parse_special: bool | None = None


@dataclass(frozen=True, slots=True)
class TextLogprobs:
    """The tokens of a text; `text_offset` counts characters from its start.

    The first token of a prompt has no logprobs.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextChoice:
    """One choice, or a piece of it in a stream."""

    text: str
    index: int
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionResponse:
    """All choices, or a piece of one in a stream; `created` is in seconds since 1970."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: None = None
    choices: list[TextChoice]
    usage: CompletionUsage | None
