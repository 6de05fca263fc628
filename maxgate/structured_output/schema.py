"""What a client's schema asks for, and whether a text gives it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import jsonschema_rs
import orjson

from maxgate.errors import InvalidRequest
from maxgate.generation.json_schema import resolve_ref
from maxgate.structured_output.example import example

_MOST_PATTERNS: Final = 64  # each may take 4 ms to be compiled
_LONGEST_PATTERNS: Final = 10_000  # characters, all together
_MOST_CHECKS: Final = 5_000
_ALL_OF: Final = ("allOf", "anyOf", "oneOf")
_ONE: Final = ("not", "if", "then", "else")


def check_bounds(*schemas: Mapping[str, Any]) -> None:
    """Raise ValueError for what would take too long.

    Patterns are few and short, in all schemas together. No value is checked against more than 5000
    schemas: references to references double them with each step. Only those within the schema are
    followed, as pointers.
    """
    patterns = [pattern for schema in schemas for pattern in _patterns(schema)]
    if len(patterns) > _MOST_PATTERNS:
        raise ValueError(f"it may have at most {_MOST_PATTERNS} patterns")
    if sum(map(len, patterns)) > _LONGEST_PATTERNS:
        raise ValueError(f"its patterns may have at most {_LONGEST_PATTERNS} characters together")


def _patterns(schema: Mapping[str, Any]) -> Iterator[str]:
    """All of them; raises ValueError for what else the schema has too much of."""
    known: dict[int, int] = {}
    for part in _parts(schema):
        if isinstance(pattern := part.get("pattern"), str):
            yield pattern
        named = part.get("patternProperties")
        yield from named if isinstance(named, dict) else ()
        _check_names(part, is_root=part is schema)
        if _checks(part, schema, known) > _MOST_CHECKS:
            raise ValueError(f"a value may be checked against at most {_MOST_CHECKS} schemas")


def _parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    rest: list[Any] = [schema]
    while rest:
        value = rest.pop()
        if isinstance(value, Mapping):
            yield value
            rest += value.values()
        elif isinstance(value, list):
            rest += value


def _check_names(part: Mapping[str, Any], *, is_root: bool) -> None:
    reference = part.get("$ref")
    if isinstance(reference, str) and reference != "#" and not reference.startswith("#/"):
        raise ValueError(f"only references such as #/$defs/name are followed, not {reference}")
    others = ("$dynamicRef", "$recursiveRef", *(() if is_root else ("$id",)))
    if name := next((name for name in others if isinstance(part.get(name), str)), None):
        raise ValueError(f"'{name}' is not served here")


def _checks(schema: Any, root: Mapping[str, Any], known: dict[int, int]) -> int:
    """The schemas that one value is checked against, those within its parts left out."""
    if not isinstance(schema, Mapping):
        return 1
    if id(schema) not in known:
        known[id(schema)] = 1  # counts where it refers to itself
        checks = 1 + sum(_checks(inner, root, known) for inner in _of_the_same_value(schema, root))
        known[id(schema)] = min(checks, _MOST_CHECKS + 1)
    return known[id(schema)]


def _of_the_same_value(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Any]:
    for word in _ALL_OF:
        several = schema.get(word)
        yield from several if isinstance(several, list) else ()
    for word in _ONE:
        yield schema.get(word)
    dependent = schema.get("dependentSchemas")
    yield from dependent.values() if isinstance(dependent, Mapping) else ()
    if isinstance(reference := schema.get("$ref"), str):
        yield resolve_ref(reference, root)


_MOST_BACKTRACKING: Final = 10_000
_LARGEST_PATTERN: Final = 1_000_000  # bytes, compiled
_PARAM: Final = "response_format.json_schema.schema"
_DECODER: Final = json.JSONDecoder()
_ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}


class Checker:
    """A schema that is known to be one.

    It is compiled and checked in bounded time, and references lead nowhere outside the
    schema: both come from strangers. Raises InvalidRequest where it is not a schema; its message
    says what it would be the schema `of`.
    """

    def __init__(
        self, schema: Mapping[str, Any], *, of: str = "response_format", param: str = _PARAM
    ) -> None:
        self._schema = schema or _ANY_OBJECT
        try:
            check_bounds(self._schema)
            self._validator = jsonschema_rs.Draft202012Validator(
                dict(self._schema),
                pattern_options=jsonschema_rs.FancyRegexOptions(
                    backtrack_limit=_MOST_BACKTRACKING, size_limit=_LARGEST_PATTERN
                ),
                retriever=_no_reference,
            )
        except (jsonschema_rs.ValidationError, ValueError, RecursionError) as error:
            raise InvalidRequest(
                f"Invalid schema for {of}: {str(error).splitlines()[0][:200]}",
                param=param,
                code="invalid_value",
            ) from error

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
        shape = orjson.dumps(example(self._schema)).decode()
        return f"Answer with one JSON object and nothing else, such as {shape}"


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
