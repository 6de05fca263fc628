"""JSON schemas, as far as several features need to know them."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import orjson


def certain_prefix(schema: Mapping[str, Any]) -> str:
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


def resolve_ref(reference: str, root: Mapping[str, Any]) -> Any:
    """What a reference such as `#/$defs/name` leads to (RFC 6901); None where it leads nowhere."""
    found: Any = root
    for step in unquote(reference).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list):
            found = found[int(name)] if name.isdecimal() and int(name) < len(found) else None
        else:
            found = found.get(name) if isinstance(found, Mapping) else None
    return found
