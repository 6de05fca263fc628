"""A value that shows what a schema asks for."""

from collections.abc import Mapping
from typing import Any, Final

from maxgate.generation.json_schema import resolve_ref

_DEEPEST: Final = 8
_MOST_VALUES: Final = 500

_EXAMPLES: Final[Mapping[str, Any]] = {
    "string": "...",
    "integer": 0,
    "number": 0.5,
    "boolean": True,
    "null": None,
}


def example(schema: Mapping[str, Any]) -> Any:
    """A value of the schema's shape: small models copy one better than they read a schema.

    References within the schema are followed; what is nested deeper than 8 levels is left out, and
    so is all that follows after 500 values.
    """
    return _Example(schema).of(schema, _DEEPEST)


class _Example:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = _MOST_VALUES

    def of(self, schema: Any, depth: int) -> Any:
        self._left -= 1
        if not isinstance(schema, dict) or depth == 0:
            return "..."
        if (known := _given(schema)) is not None:
            return known
        inner = _inner(schema, self._root)
        if inner is not None:
            return self.of(inner, depth - 1)
        kinds = schema.get("type", "object" if "properties" in schema else "string")
        kind = kinds[0] if isinstance(kinds, list) and kinds else kinds
        if kind == "array":
            return [self.of(schema.get("items"), depth - 1)]
        if kind == "object":
            return self._object(schema.get("properties"), depth)
        return _EXAMPLES.get(kind, "...") if isinstance(kind, str) else "..."

    def _object(self, properties: Any, depth: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for name, schema in properties.items() if isinstance(properties, dict) else ():
            if self._left <= 0:
                break
            value[name] = self.of(schema, depth - 1)
        return value


def _given(schema: Mapping[str, Any]) -> Any:
    for word in ("const", "default"):
        if schema.get(word) is not None:
            return schema[word]
    for word in ("enum", "examples"):
        values = schema.get(word)
        if isinstance(values, list) and values:
            return values[0]
    return None


def _inner(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return resolve_ref(reference, root)
    for word in ("anyOf", "oneOf", "allOf"):
        options = schema.get(word)
        if isinstance(options, list) and options:
            return options[0]
    return None
