"""What all request bodies have in common."""

from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field


class RequestBody(BaseModel):
    """A body that is read strictly: no unknown fields, no `"true"` for true, no NaN."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]
"""Sixteen pairs of short strings, as OpenAI limits them."""

StopString = Annotated[str, Field(min_length=1, max_length=1000)]
StopStrings = StopString | Annotated[list[StopString], Field(max_length=4)]
"""Up to four, as OpenAI limits them."""

NotServed: TypeAlias = None
"""A field that OpenAI knows and that is not served: null passes, the rest is refused by name."""
