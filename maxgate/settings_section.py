"""Base class of the sections of settings, and the rules that hold for every setting."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails


class Section(BaseModel):
    """A group of settings; unknown settings, infinity and NaN are rejected.

    An empty value unsets a setting that is optional or a list, and is rejected for all others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_empty(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str) or value.strip():
            return value
        default = cls.model_fields[str(info.field_name)].default
        if default in (None, []):
            return default
        raise ValueError("the value is empty; leave the setting out to use its default")


def list_errors(error: ValidationError) -> list[ErrorDetails]:
    """Return the errors to report, without the values, which may be secrets.

    An unknown field may be the misspelled one that is missing, so it comes first.
    """
    details = error.errors(include_url=False, include_input=False)
    return sorted(details, key=lambda one: one["type"] != "extra_forbidden")


def choose_error(error: ValidationError) -> ErrorDetails:
    """Return the first error to report, without the value, which may be a secret."""
    return list_errors(error)[0]


def split_list(value: Any) -> Any:
    """Parse a comma-separated or JSON list, as in variables and flags, without empty items."""
    items = _split(value) if isinstance(value, str) else value
    if isinstance(items, list) and "" in items:
        raise ValueError("the list has an empty item; remove it")
    return items


def _split(value: str) -> Any:
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError("not a valid JSON list") from None
    return [item.strip() for item in value.split(",") if item.strip()]


def parse_mapping(value: Any) -> Any:
    """Parse a JSON object, as in variables."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("not a valid JSON object") from None
