"""Settings that are lists."""

import json
from typing import Any


def split_list(value: Any) -> Any:
    """Split a comma-separated or JSON list, as environment variables and flags have it."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("not a valid JSON list") from None
    return [item.strip() for item in value.split(",") if item.strip()]
