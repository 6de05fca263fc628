"""An example value of a schema: small models copy one better than they read a schema."""

from collections.abc import Mapping
from typing import Any, Final

from maxgate.generation.json_schema import resolve_ref

_MAX_DEPTH: Final = 8
_MAX_VALUES: Final = 500

_EXAMPLES: Final[Mapping[str, Any]] = {
    "string": "...",
    "integer": 0,
    "number": 0.5,
    "boolean": True,
    "null": None,
}


def make_example(schema: Mapping[str, Any]) -> Any:
    """Make a value of the schema's shape.

    References within the schema are followed. Values nested deeper than 8 levels are replaced by
    "...", and properties after the first 500 values are left out.
    """
    return _ExampleBuilder(schema).build(schema, _MAX_DEPTH)


class _ExampleBuilder:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._values_left = _MAX_VALUES

    def build(self, schema: Any, depth: int) -> Any:
        self._values_left -= 1
        if not isinstance(schema, dict) or depth == 0:
            return "..."
        if (given := _find_given_value(schema)) is not None:
            return given
        inner = _find_subschema(schema, self._root)
        if inner is not None:
            return self.build(inner, depth - 1)
        types = schema.get("type", "object" if "properties" in schema else "string")
        kind = types[0] if isinstance(types, list) and types else types
        if kind == "array":
            return [self.build(schema.get("items"), depth - 1)]
        if kind == "object":
            return self._build_object(schema.get("properties"), depth)
        return _EXAMPLES.get(kind, "...") if isinstance(kind, str) else "..."

    def _build_object(self, properties: Any, depth: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for name, schema in properties.items() if isinstance(properties, dict) else ():
            if self._values_left <= 0:
                break
            value[name] = self.build(schema, depth - 1)
        return value


def _find_given_value(schema: Mapping[str, Any]) -> Any:
    for keyword in ("const", "default"):
        if schema.get(keyword) is not None:
            return schema[keyword]
    for keyword in ("enum", "examples"):
        values = schema.get(keyword)
        if isinstance(values, list) and values:
            return values[0]
    return None


def _find_subschema(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return resolve_ref(reference, root)
    for keyword in ("anyOf", "oneOf", "allOf"):
        options = schema.get(keyword)
        if isinstance(options, list) and options:
            return options[0]
    return None
