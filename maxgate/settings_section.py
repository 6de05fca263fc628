"""Base class of the sections of settings: the rules that hold for every setting."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


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
