"""OpenAI's embedding request and response.

Shapes follow `CreateEmbeddingRequest` and its response in OpenAI's API description.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, Tag

from maxgate.api.schemas import RequestBody, discriminate_input

_MAX_INPUTS: Final = 2048
# Per input. The model's own limit is lower and is checked later.
_MAX_TOKENS: Final = 100_000

# fail_fast: invalid items would otherwise not count towards max_length.
Text = Annotated[str, Field(min_length=1)]
Tokens = Annotated[list[int], Field(min_length=1, max_length=_MAX_TOKENS, fail_fast=True)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=_MAX_INPUTS, fail_fast=True)]
TokenArrays = Annotated[list[Tokens], Field(min_length=1, max_length=_MAX_INPUTS, fail_fast=True)]

Input = Annotated[
    Annotated[Text, Tag("a-text")]
    | Annotated[Texts, Tag("some-texts")]
    | Annotated[Tokens, Tag("token-ids")]
    | Annotated[TokenArrays, Tag("token-arrays")],
    Discriminator(discriminate_input),
]
"""One or several texts, or the token ids of one or several; tags are not field names."""


class EmbeddingRequestBody(RequestBody):
    """Inputs to embed; `model` is optional if only one embedding model is served."""

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
    """Prompt tokens including special tokens; both numbers are equal."""

    prompt_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingResponse:
    """A vector for each input, in order."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
