"""Types shared by request bodies and responses."""

from typing import Annotated, Any, Final, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError, PydanticKnownError


class RequestBody(BaseModel):
    """A strictly validated body: no unknown fields, no coercion, no NaN."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


def _check_empty(value: dict[str, Any]) -> dict[str, Any]:
    if value:
        raise PydanticCustomError("none_required", "not served")
    return value


EmptyObject = Annotated[
    dict[str, Any], AfterValidator(_check_empty), Field(json_schema_extra={"maxProperties": 0})
]
"""An object that must be empty; any entry is rejected by name."""

_MAX_SCHEMA_DEPTH: Final = 32
_MAX_SCHEMA_VALUES: Final = 20_000


def _check_schema_size(schema: dict[str, Any]) -> dict[str, Any]:
    # Schemas are rendered into prompts and compiled; both take time per value.
    level: list[Any] = [schema]
    values = 0
    for _ in range(_MAX_SCHEMA_DEPTH):
        below: list[Any] = []
        for value in level:
            below += value.values() if isinstance(value, dict) else value
        values += len(below)
        level = [value for value in below if isinstance(value, dict | list)]
        if not level or values > _MAX_SCHEMA_VALUES:
            break
    if values > _MAX_SCHEMA_VALUES:
        raise ValueError(f"it must have at most {_MAX_SCHEMA_VALUES} values")
    if level:
        raise ValueError(f"it must be nested at most {_MAX_SCHEMA_DEPTH} levels deep")
    return schema


JsonSchema = Annotated[dict[str, Any], AfterValidator(_check_schema_size)]
"""A JSON schema of bounded size; its validity is checked where it is used."""

TemplateVariables = Annotated[dict[str, Any], AfterValidator(_check_schema_size)]
"""Variables of a chat template, of bounded size."""

_MAX_METADATA_PAIRS: Final = 16


def _check_pairs(value: Any) -> Any:
    # pydantic would otherwise validate every pair before it checks the length.
    if isinstance(value, dict) and len(value) > _MAX_METADATA_PAIRS:
        lengths = {"max_length": _MAX_METADATA_PAIRS, "actual_length": len(value)}
        raise PydanticKnownError("too_long", {"field_type": "Dictionary", **lengths})
    return value


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=_MAX_METADATA_PAIRS),
    BeforeValidator(_check_pairs),
]
"""At most sixteen pairs of short strings, as at OpenAI."""


def discriminate_input(value: Any) -> str:
    """Return the tag of an input: a text, token ids, or an array of either.

    The first item of an array decides; the others are validated against it.
    """
    if not isinstance(value, list):
        return "a-text"
    first = value[0] if value else None
    if isinstance(first, list):
        return "token-arrays"
    return "token-ids" if isinstance(first, int | float) else "some-texts"


Unsupported: TypeAlias = None
"""A field of OpenAI's that is not supported: only null is accepted."""
