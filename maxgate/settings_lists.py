"""Settings that are lists."""

import json
from typing import Any


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
        except ValueError:
            raise ValueError("not a valid JSON list") from None
    return [item.strip() for item in value.split(",") if item.strip()]
