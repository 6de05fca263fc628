"""What a client's schema asks for, and whether a text gives it."""

import json
from collections.abc import Mapping
from typing import Any, Final

import jsonschema_rs
import orjson

from maxgate.errors import InvalidRequest

_MOST_BACKTRACKING: Final = 10_000
_LARGEST_PATTERN: Final = 1_000_000  # bytes, compiled
_DEEPEST_EXAMPLE: Final = 8
_PARAM: Final = "response_format.json_schema.schema"
_DECODER: Final = json.JSONDecoder()
_ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}


class Checker:
    """A schema that is known to be one.

    Patterns are matched in bounded time, and references lead nowhere outside the schema: both come
    from strangers. Raises InvalidRequest where it is not a schema.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema or _ANY_OBJECT
        try:
            self._validator = jsonschema_rs.Draft202012Validator(
                dict(self._schema),
                pattern_options=jsonschema_rs.FancyRegexOptions(
                    backtrack_limit=_MOST_BACKTRACKING, size_limit=_LARGEST_PATTERN
                ),
                retriever=_no_reference,
            )
        except (jsonschema_rs.ValidationError, ValueError, RecursionError) as error:
            raise _invalid(str(error).splitlines()[0][:200]) from error

    def accepts(self, text: str) -> bool:
        """Whether the text is JSON that fits."""
        try:
            return self._validator.is_valid(orjson.loads(text))
        except (ValueError, RecursionError):
            return False

    @property
    def instruction(self) -> str:
        """What a model is told that has no grammar to keep it to the schema."""
        if not self._schema.get("properties"):
            return "Answer with one JSON object and nothing else."
        shape = orjson.dumps(example(self._schema, self._schema)).decode()
        return f"Answer with one JSON object and nothing else, such as {shape}"


_EXAMPLES: Final[Mapping[str, Any]] = {
    "string": "...",
    "integer": 0,
    "number": 0.5,
    "boolean": True,
    "null": None,
}


def example(schema: Any, root: Mapping[str, Any], depth: int = _DEEPEST_EXAMPLE) -> Any:
    """A value of the schema's shape: small models copy one better than they read a schema.

    References into `root` are followed; what is nested deeper than `depth` is left out.
    """
    if not isinstance(schema, dict) or depth == 0:
        return "..."
    if (known := _given(schema)) is not None:
        return known
    inner = _inner(schema, root)
    if inner is not None:
        return example(inner, root, depth - 1)
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    kind = kinds[0] if isinstance(kinds, list) and kinds else kinds
    if kind == "array":
        return [example(schema.get("items"), root, depth - 1)]
    if kind == "object":
        properties = schema.get("properties")
        named = properties.items() if isinstance(properties, dict) else ()
        return {name: example(value, root, depth - 1) for name, value in named}
    return _EXAMPLES.get(kind, "...") if isinstance(kind, str) else "..."


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
    if isinstance(reference, str) and reference.startswith("#/"):
        found: Any = root
        for step in reference[2:].split("/"):
            found = found.get(step) if isinstance(found, dict) else None
        return found
    for word in ("anyOf", "oneOf", "allOf"):
        options = schema.get(word)
        if isinstance(options, list) and options:
            return options[0]
    return None


def first_value(text: str) -> str | None:
    """The JSON value that the text begins with, without what follows it; None without one."""
    begun = text.lstrip()
    try:
        _, end = _DECODER.raw_decode(begun)
    except (ValueError, RecursionError):
        return None
    return begun[:end]


def _no_reference(uri: str) -> Any:
    raise ValueError(f"references to other documents are not followed: {uri[:100]}")


def _invalid(reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid schema for response_format: {reason}", param=_PARAM, code="invalid_value"
    )
