"""JSON schemas from clients: follow references, predict a prefix, validate in bounded time."""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

import jsonschema_rs
import orjson

from maxgate.errors import InvalidRequest

MAX_PATTERNS: Final = 64  # compiling one may take 4 ms
MAX_PATTERN_CHARACTERS: Final = 10_000  # of all patterns together
MAX_SCHEMAS_PER_VALUE: Final = 5_000
_MAX_BACKTRACKING: Final = 10_000
_MAX_COMPILED_PATTERN_BYTES: Final = 1_000_000
_ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}


def resolve_ref(reference: str, root: Mapping[str, Any]) -> Any:
    """Resolve a reference such as `#/$defs/name` (RFC 6901); None if there is no such place."""
    found: Any = root
    for step in unquote(reference).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list):
            found = found[int(name)] if name.isdecimal() and int(name) < len(found) else None
        else:
            found = found.get(name) if isinstance(found, Mapping) else None
    return found


def rebase_refs(schema: Any, pointer: str) -> Any:
    """Return the schema with references for its new place, such as `#/$defs/name`."""
    if isinstance(schema, list):
        return [rebase_refs(inner, pointer) for inner in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        keyword: pointer + value.removeprefix("#")
        if keyword == "$ref" and isinstance(value, str)
        else rebase_refs(value, pointer)
        for keyword, value in schema.items()
    }


def certain_prefix(schema: Mapping[str, Any]) -> str:
    """Return the text that a value of the schema starts with if its first property comes first."""
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


class JsonValidator:
    """Validates JSON text against a client's schema.

    Compiling and validating take bounded time, and no reference leads outside the schema. Raises
    InvalidRequest if the schema is invalid or over a bound; `subject` names the schema in the
    message.
    """

    def __init__(self, schema: Mapping[str, Any], *, subject: str, param: str) -> None:
        schema = schema or _ANY_OBJECT
        try:
            check_bounds(schema)
            self._validator = jsonschema_rs.Draft202012Validator(
                dict(schema),
                pattern_options=jsonschema_rs.FancyRegexOptions(
                    backtrack_limit=_MAX_BACKTRACKING, size_limit=_MAX_COMPILED_PATTERN_BYTES
                ),
                retriever=_refuse_external_reference,
            )
        except (jsonschema_rs.ValidationError, ValueError, RecursionError) as error:
            raise InvalidRequest(
                f"Invalid schema for {subject}: {str(error).splitlines()[0][:200]}",
                param=param,
                code="invalid_value",
            ) from error

    def matches(self, text: str) -> bool:
        """Whether the text is JSON that matches the schema."""
        try:
            return self._validator.is_valid(orjson.loads(text))
        except (ValueError, RecursionError):
            return False


def _refuse_external_reference(uri: str) -> Any:
    raise ValueError(f"references to other documents are not supported: {uri[:100]}")


def check_bounds(*schemas: Mapping[str, Any]) -> None:
    """Raise ValueError for schemas that could take too long to compile or to validate against.

    The number and total length of patterns are limited over all the schemas together. A value may
    be checked against at most 5000 subschemas: references to references can double that number
    with each step. References must be JSON pointers within the schema.
    """
    patterns = [pattern for schema in schemas for pattern in _find_patterns(schema)]
    if len(patterns) > MAX_PATTERNS:
        raise ValueError(f"it may have at most {MAX_PATTERNS} patterns")
    if sum(map(len, patterns)) > MAX_PATTERN_CHARACTERS:
        raise ValueError(
            f"its patterns may have at most {MAX_PATTERN_CHARACTERS} characters together"
        )


def _find_patterns(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield all patterns; raise ValueError for the other bounds."""
    counts: dict[int, int] = {}
    for part in _iterate_objects(schema):
        if isinstance(pattern := part.get("pattern"), str):
            yield pattern
        named = part.get("patternProperties")
        yield from named if isinstance(named, dict) else ()
        _check_references(part, is_root=part is schema)
        if _count_subschemas(part, schema, counts) > MAX_SCHEMAS_PER_VALUE:
            raise ValueError(
                f"a value may be checked against at most {MAX_SCHEMAS_PER_VALUE} schemas"
            )


def _iterate_objects(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    rest: list[Any] = [schema]
    while rest:
        value = rest.pop()
        if isinstance(value, Mapping):
            yield value
            rest += value.values()
        elif isinstance(value, list):
            rest += value


def _check_references(part: Mapping[str, Any], *, is_root: bool) -> None:
    reference = part.get("$ref")
    if isinstance(reference, str) and reference != "#" and not reference.startswith("#/"):
        raise ValueError(f"'$ref' must be a pointer such as #/$defs/name, not {reference}")
    keywords = ("$dynamicRef", "$recursiveRef", *(() if is_root else ("$id",)))
    if name := next((name for name in keywords if isinstance(part.get(name), str)), None):
        raise ValueError(f"'{name}' is not supported")


def _count_subschemas(schema: Any, root: Mapping[str, Any], counts: dict[int, int]) -> int:
    """Count the schemas that one value is checked against, without those of its members."""
    if not isinstance(schema, Mapping):
        return 1
    if id(schema) not in counts:
        counts[id(schema)] = 1  # so that a cycle ends here
        applied = _iterate_applied(schema, root)
        count = 1 + sum(_count_subschemas(inner, root, counts) for inner in applied)
        counts[id(schema)] = min(count, MAX_SCHEMAS_PER_VALUE + 1)
    return counts[id(schema)]


def _iterate_applied(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the subschemas that apply to the same value as the schema itself."""
    for keyword in ("allOf", "anyOf", "oneOf"):
        options = schema.get(keyword)
        yield from options if isinstance(options, list) else ()
    for keyword in ("not", "if", "then", "else"):
        yield schema.get(keyword)
    dependent = schema.get("dependentSchemas")
    yield from dependent.values() if isinstance(dependent, Mapping) else ()
    if isinstance(reference := schema.get("$ref"), str):
        yield resolve_ref(reference, root)
