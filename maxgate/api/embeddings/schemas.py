"""Embeddings as OpenAI spells them.

Shapes follow `CreateEmbeddingRequest` and its answer in OpenAI's published API description.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, Tag

from maxgate.api.schemas import RequestBody, input_kind

_MAX_INPUTS: Final = 2048
# Of one input; the model's own limit is checked later, and is lower.
_MAX_TOKENS: Final = 100_000

# Arrays end at the first error: items that are wrong do not count towards the greatest length.
Text = Annotated[str, Field(min_length=1)]
Tokens = Annotated[list[int], Field(min_length=1, max_length=_MAX_TOKENS, fail_fast=True)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=_MAX_INPUTS, fail_fast=True)]
TokenArrays = Annotated[list[Tokens], Field(min_length=1, max_length=_MAX_INPUTS, fail_fast=True)]

Input = Annotated[
    Annotated[Text, Tag("a-text")]
    | Annotated[Texts, Tag("some-texts")]
    | Annotated[Tokens, Tag("token-ids")]
    | Annotated[TokenArrays, Tag("token-arrays")],
    Discriminator(input_kind),
]
"""One text or several, or the token ids of one or several; the tags are no field names."""


class EmbeddingRequestBody(RequestBody):
    """What is to be embedded; `model` may be left out where one model for embeddings is served."""

    input: Input
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """One vector: numbers, or little-endian float32 values in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingUsage:
    """Tokens that the model saw, its special tokens included; both numbers are the same."""

    prompt_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingResponse:
    """A vector for each input, in order."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
