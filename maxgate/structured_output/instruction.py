"""The instruction that tells the model which JSON is expected: its schema, and an example of it.

A grammar only rules out what does not match: without the schema in its prompt, the model knows
neither the descriptions nor the meaning of the fields that it is made to write.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from maxgate.generation.request import JsonOutput
from maxgate.structured_output.example import make_example

MAX_SCHEMA_CHARACTERS: Final = 8000
_PLAIN: Final = "Answer with one JSON object and nothing else"

_SCHEMA_KEYWORDS: Final = frozenset(
    {
        "items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else",
        "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
_LIST_KEYWORDS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAP_KEYWORDS: Final = frozenset(
    {"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"}
)
# Without effect on the JSON.
_META_KEYWORDS: Final = frozenset({"$schema", "$id", "$comment"})
_SHAPE_KEYWORDS: Final = _SCHEMA_KEYWORDS | _LIST_KEYWORDS | _MAP_KEYWORDS | {
    "type", "enum", "const", "required", "$ref", "format",
}  # fmt: skip


_EXAMPLE_KEYWORDS: Final = _META_KEYWORDS | {
    "type", "properties", "required", "items", "additionalProperties", "title",
}  # fmt: skip
_EXAMPLE_TYPES: Final = frozenset({"object", "array", "string", "integer", "number", "boolean"})


class _Detail(NamedTuple):
    """How much of a schema is written."""

    description_characters: int
    enum_values: int
    titles: bool
    shape_only: bool


_DETAILS: Final = (
    _Detail(MAX_SCHEMA_CHARACTERS, MAX_SCHEMA_CHARACTERS, titles=True, shape_only=False),
    _Detail(200, 50, titles=False, shape_only=False),
    _Detail(60, 10, titles=False, shape_only=True),
    _Detail(0, 5, titles=False, shape_only=True),
)


def write_instruction(output: JsonOutput, *, with_example: bool, max_characters: int) -> str:
    """Write the instruction to answer with JSON that matches the schema of `output`.

    Schema and example have at most `max_characters` each. A schema that is longer is shortened as
    in `write_schema`, an example that is longer is left out. Small models copy an example better
    than they read a schema.
    """
    schema: Mapping[str, Any] = output.schema
    example = ""
    if with_example and schema.get("properties"):
        example = orjson.dumps(make_example(schema)).decode()
    request = f"{_PLAIN}, such as {example}" if 0 < len(example) <= max_characters else f"{_PLAIN}."
    if output.description:
        schema = {"description": output.description, **schema}
    if not schema.keys() - _META_KEYWORDS - {"type"}:
        return request
    if 0 < len(example) <= max_characters and _is_shown_by_example(schema):
        return request
    written = write_schema(schema, max_characters)
    return f"The JSON schema of the answer is:\n{written}\n{request}"


def _is_shown_by_example(schema: Any) -> bool:
    """Whether an example tells all of the schema: plain types, and required properties only."""
    if not isinstance(schema, Mapping) or schema.keys() - _EXAMPLE_KEYWORDS:
        return False
    kind, properties = schema.get("type"), schema.get("properties", {})
    if not isinstance(kind, str) or kind not in _EXAMPLE_TYPES:
        return False
    if not isinstance(properties, Mapping):
        return False
    if set(properties) != set(schema.get("required", ())):
        return False
    if isinstance(schema.get("additionalProperties"), Mapping):
        return False
    items = [schema["items"]] if "items" in schema else []
    return all(_is_shown_by_example(inner) for inner in [*properties.values(), *items])


def write_schema(schema: Mapping[str, Any], max_characters: int) -> str:
    """Write the schema as compact JSON of at most `max_characters` characters.

    A longer schema is written with less detail, in fixed steps: shorter descriptions, fewer values
    of each `enum` and no titles, then the shape only, then no descriptions. What is still too long
    is cut.
    """
    written = ""
    for detail in _DETAILS:
        written = orjson.dumps(_reduce(schema, detail)).decode()
        if len(written) <= max_characters:
            return written
    return written[: max_characters - 3] + "..."


def _reduce(schema: Any, detail: _Detail) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    reduced: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "description" and isinstance(value, str):
            reduced |= _shorten_description(value, detail.description_characters)
        elif keyword == "enum" and isinstance(value, list):
            reduced |= _shorten_enum(value, detail.enum_values)
        elif _is_written(keyword, detail):
            reduced[keyword] = _reduce_member(keyword, value, detail)
    return reduced


def _reduce_member(keyword: str, value: Any, detail: _Detail) -> Any:
    if keyword in _SCHEMA_KEYWORDS:
        return _reduce(value, detail)
    if keyword in _LIST_KEYWORDS and isinstance(value, list):
        return [_reduce(inner, detail) for inner in value]
    if keyword in _MAP_KEYWORDS and isinstance(value, Mapping):
        return {name: _reduce(inner, detail) for name, inner in value.items()}
    return value


def _shorten_description(text: str, characters: int) -> dict[str, str]:
    if len(text) > characters:
        text = text[: characters - 3] + "..." if characters else ""
    return {"description": text} if text else {}


def _shorten_enum(values: list[Any], count: int) -> dict[str, Any]:
    if len(values) <= count:
        return {"enum": values}
    return {"enum": values[:count], "enumValuesLeftOut": len(values) - count}


def _is_written(keyword: str, detail: _Detail) -> bool:
    if detail.shape_only:
        return keyword in _SHAPE_KEYWORDS
    return keyword not in _META_KEYWORDS and (detail.titles or keyword != "title")
