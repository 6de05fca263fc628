"""What all request bodies have in common."""

from typing import Annotated, Any, Final, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError, PydanticKnownError
from typing_extensions import TypedDict

from maxgate.generation.chunk import Usage


class RequestBody(BaseModel):
    """A body that is read strictly: no unknown fields, no `"true"` for true, no NaN."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


def _nothing(value: dict[str, Any]) -> dict[str, Any]:
    if value:
        raise PydanticCustomError("none_required", "not served")
    return value


NothingIn = Annotated[
    dict[str, Any], AfterValidator(_nothing), Field(json_schema_extra={"maxProperties": 0})
]
"""An object that clients send empty; anything in it is refused by name."""

_DEEPEST_SCHEMA: Final = 32
_LARGEST_SCHEMA: Final = 20_000


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    # Schemas are rendered into prompts and compiled: both take time for each of their values.
    level: list[Any] = [schema]
    values = 0
    for _ in range(_DEEPEST_SCHEMA):
        below: list[Any] = []
        for value in level:
            below += value.values() if isinstance(value, dict) else value
        values += len(below)
        level = [value for value in below if isinstance(value, dict | list)]
        if not level or values > _LARGEST_SCHEMA:
            break
    if values > _LARGEST_SCHEMA:
        raise ValueError(f"a schema may have at most {_LARGEST_SCHEMA} values")
    if level:
        raise ValueError(f"a schema may be nested at most {_DEEPEST_SCHEMA} levels deep")
    return schema


JsonSchema = Annotated[dict[str, Any], AfterValidator(_bounded)]
"""A JSON schema of bounded size; whether it is a valid one is found out by who uses it."""

_MOST_PAIRS: Final = 16


def _few(value: Any) -> Any:
    # An object's length is otherwise looked at after each of its pairs.
    if isinstance(value, dict) and len(value) > _MOST_PAIRS:
        lengths = {"max_length": _MOST_PAIRS, "actual_length": len(value)}
        raise PydanticKnownError("too_long", {"field_type": "Dictionary", **lengths})
    return value


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=_MOST_PAIRS),
    BeforeValidator(_few),
]
"""Sixteen pairs of short strings, as OpenAI limits them."""


def input_kind(value: Any) -> str:
    """The tag of an input: a text, token ids, or an array of either.

    What an array starts with says what it is; the rest of it is checked against that.
    """
    if not isinstance(value, list):
        return "a-text"
    first = value[0] if value else None
    if isinstance(first, list):
        return "token-arrays"
    return "token-ids" if isinstance(first, int | float) else "some-texts"


NotServed: TypeAlias = None
"""A field that OpenAI knows and that is not served: null passes, the rest is refused by name."""


class PromptTokensDetails(TypedDict):
    """Of the prompt's tokens, those that the engine had in its prefix cache."""

    cached_tokens: int


class CompletionUsage(TypedDict):
    """Tokens counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


def completion_usage(usage: Usage) -> CompletionUsage:
    """What was counted, in OpenAI's words."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
