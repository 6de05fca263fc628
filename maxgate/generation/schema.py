"""JSON schemas, as far as generating needs to know them."""

from collections.abc import Mapping
from typing import Any

import orjson


def beginning(schema: Mapping[str, Any]) -> str:
    """What every answer that fits begins with, as far as it is certain."""
    if schema and schema.get("type") != "object":
        return ""
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict) or not isinstance(required, list) or not properties:
        return "{"
    name, value = next(iter(properties.items()))
    if name not in required:
        return "{"
    start = "{" + orjson.dumps(name).decode() + ": "
    is_text = isinstance(value, dict) and value.get("type") == "string" and "enum" not in value
    return start + '"' if is_text else start
