"""OpenAI's moderation request and response.

Shapes follow `CreateModerationRequest` and its response in OpenAI's API description.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, Tag

from maxgate.api.schemas import RequestBody

_MAX_INPUTS: Final = 128

Text = Annotated[str, Field(min_length=1)]


class TextInput(RequestBody):
    """A text; images are not supported."""

    type: Literal["text"]
    text: Text


def _discriminate(value: object) -> str:
    if not isinstance(value, list):
        return "a-text"
    return "some-parts" if value and isinstance(value[0], dict) else "some-texts"


_SEVERAL: Final = Field(min_length=1, max_length=_MAX_INPUTS, fail_fast=True)
Input = Annotated[
    Annotated[Text, Tag("a-text")]
    | Annotated[list[Text], _SEVERAL, Tag("some-texts")]
    | Annotated[list[TextInput], _SEVERAL, Tag("some-parts")],
    Discriminator(_discriminate),
]
"""A text, several texts, or the parts of one; tags are not field names."""


class ModerationRequestBody(RequestBody):
    """Texts to judge; `model` defaults to the first moderation model."""

    input: Input
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModerationResult:
    """The verdict on one text.

    Beside OpenAI's categories, the objects have those of Llama Guard, `S1` to `S14`.
    """

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[Literal["text"]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModerationResponse:
    """A result for each text, in order."""

    id: str
    model: str
    results: list[ModerationResult]
