"""Schemas come from clients: their cost is bounded, and errors name the reason."""

from typing import Any

import pytest

from maxgate.errors import InvalidRequest
from maxgate.generation.json_schema import JsonValidator, certain_prefix
from tests.fakes.cpu_time import limit_cpu_time


def doubling(times: int, *, word: str = "allOf") -> dict[str, Any]:
    """Make a schema that checks a value against 2 to the power of `times` subschemas."""
    steps = {f"s{n}": {word: [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(times)}
    return {"$ref": "#/$defs/s0", "$defs": {**steps, f"s{times}": {"type": "object"}}}


def make_validator(schema: dict[str, Any]) -> JsonValidator:
    return JsonValidator(
        schema, subject="response_format", param="response_format.json_schema.schema"
    )


def patterns(number: int, pattern: str) -> dict[str, Any]:
    return {"properties": {f"p{n}": {"type": "string", "pattern": pattern} for n in range(number)}}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "wat"}, "is not valid under any of the schemas"),
        ({"$ref": "http://169.254.169.254/latest"}, "169.254.169.254"),
        ({"$ref": "#/$defs/none"}, "none"),
        ({"properties": {"a": {"pattern": "a{1,100000}"}}}, "is not a"),
        ({"properties": {"a": {"pattern": "((a{1,99}){1,99}){1,99}"}}}, "is not a"),
        (patterns(65, "a"), "at most 64 patterns"),
        (patterns(1500, "(?=a)(a{1,90}){1,90}"), "at most 64 patterns"),
        ({"anyOf": [patterns(33, "a"), {"patternProperties": {f"a{n}": {} for n in range(32)}}]},
         "at most 64 patterns"),
        (doubling(40), "at most 5000 schemas"),
        (doubling(40, word="anyOf"), "at most 5000 schemas"),
        ({"$ref": "#a", "$defs": {"b": {"$anchor": "a"}}}, "must be a pointer such as"),
        ({"$dynamicRef": "#"}, "is not supported"),
        ({"properties": {"a": {"$id": "x", "$ref": "#/b"}}}, "is not supported"),
        ({"$ref": "#/$defs/s0", "$defs": {f"s{n}": {"$ref": f"#/$defs/s{n + 1}"}
          for n in range(9000)}}, "recursion"),
        (patterns(1, "a" * 1_000_000), "at most 10000 characters"),
    ],
)  # fmt: skip
def test_rejected_schemas(schema: dict[str, Any], reason: str) -> None:
    """Invalid and expensive schemas are rejected within half a second of CPU time."""
    with limit_cpu_time(0.5), pytest.raises(InvalidRequest, match=reason) as caught:
        make_validator(schema)
    assert (caught.value.param, caught.value.code) == (
        "response_format.json_schema.schema",
        "invalid_value",
    )
    assert len(caught.value.message) < 300


def test_nested_types() -> None:
    """Many types that refer to each other are not mistaken for doubling."""
    types = [f"t{n}" for n in range(40)]
    either = {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in types]}
    pair = {"type": "object", "properties": {"left": either, "right": either}}
    validator = make_validator(
        {**pair, "$id": "http://x.test/tree", "$defs": dict.fromkeys(types, pair)}
    )
    assert validator.matches('{"left": {"right": {}}}')
    assert not validator.matches('{"left": {"right": 1}}')


def test_references() -> None:
    """References may be any JSON pointer within the schema."""
    validator = make_validator(
        {"properties": {"a/b~c d": {"type": "integer"}, "e": {"$ref": "#/properties/a~1b~0c%20d"}}}
    )
    assert validator.matches('{"e": 1}')
    assert not validator.matches('{"e": "x"}')


def test_property_named_pattern() -> None:
    """A property may be named like a keyword."""
    schema = {"properties": {"pattern": {"type": "string"}}, "required": ["pattern"]}
    assert make_validator(schema).matches('{"pattern": "a"}')
    assert not make_validator(schema).matches('{"pattern": 1}')


def test_backtracking() -> None:
    """A pattern that backtracks without end does not match, within half a second of CPU time."""
    validator = make_validator({"properties": {"a": {"pattern": r"^(?:(a+)+)(?=b)c$"}}})
    with limit_cpu_time(0.5):
        assert not validator.matches('{"a": "' + "a" * 50 + '"}')


@pytest.mark.parametrize(
    "schema", [{"$ref": "#"}, {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}]
)
def test_circular_references(schema: dict[str, Any]) -> None:
    """Circular references end."""
    validator = make_validator(schema)
    validator.matches('{"a": 1}')


@pytest.mark.parametrize(
    ("schema", "prefix"),
    [
        ({}, "{"),
        ({"type": "array"}, ""),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, "{"),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, '{"a": "'),
        ({"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"]}, '{"a": '),
        ({"type": "object", "properties": {"a": {}, "b": {}}, "required": ["b"]}, "{"),
    ],
)
def test_certain_prefix(schema: dict[str, Any], prefix: str) -> None:
    """The prefix reaches into the first property if it is required."""
    assert certain_prefix(schema) == prefix
