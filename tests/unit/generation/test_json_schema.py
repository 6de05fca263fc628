"""Schemas come from strangers: what they cost is bounded, and they are refused by name."""

import time
from typing import Any

import pytest

from maxgate.errors import InvalidRequest
from maxgate.structured_output.schema import Checker


def doubling(times: int, *, word: str = "allOf") -> dict[str, Any]:
    """A schema that a value is checked against 2 to the power of `times` times."""
    steps = {f"s{n}": {word: [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(times)}
    return {"$ref": "#/$defs/s0", "$defs": {**steps, f"s{times}": {"type": "object"}}}


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
        ({"$ref": "#a", "$defs": {"b": {"$anchor": "a"}}}, "only references such as"),
        ({"$dynamicRef": "#"}, "is not served"),
        ({"properties": {"a": {"$id": "x", "$ref": "#/b"}}}, "is not served"),
        ({"$ref": "#/$defs/s0", "$defs": {f"s{n}": {"$ref": f"#/$defs/s{n + 1}"}
          for n in range(9000)}}, "recursion"),
        (patterns(1, "a" * 1_000_000), "at most 10000 characters"),
    ],
)  # fmt: skip
def test_what_is_refused_at_once(schema: dict[str, Any], reason: str) -> None:
    began = time.perf_counter()
    with pytest.raises(InvalidRequest, match=reason) as caught:
        Checker(schema)
    assert time.perf_counter() - began < 0.5
    assert (caught.value.param, caught.value.code) == (
        "response_format.json_schema.schema",
        "invalid_value",
    )
    assert len(caught.value.message) < 300


def test_a_language_of_nested_types_is_no_doubling() -> None:
    types = [f"t{n}" for n in range(40)]
    either = {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in types]}
    pair = {"type": "object", "properties": {"left": either, "right": either}}
    checker = Checker({**pair, "$id": "http://x.test/tree", "$defs": dict.fromkeys(types, pair)})
    assert checker.accepts('{"left": {"right": {}}}')
    assert not checker.accepts('{"left": {"right": 1}}')


def test_references_may_point_anywhere_within() -> None:
    checker = Checker(
        {"properties": {"a/b~c d": {"type": "integer"}, "e": {"$ref": "#/properties/a~1b~0c%20d"}}}
    )
    assert checker.accepts('{"e": 1}')
    assert not checker.accepts('{"e": "x"}')
    assert checker.instruction.endswith('{"a/b~c d":0,"e":0}')


def test_fields_may_be_called_pattern() -> None:
    schema = {"properties": {"pattern": {"type": "string"}}, "required": ["pattern"]}
    assert Checker(schema).accepts('{"pattern": "a"}')
    assert not Checker(schema).accepts('{"pattern": 1}')


def test_a_pattern_that_backtracks_without_end_is_given_up() -> None:
    checker = Checker({"properties": {"a": {"pattern": r"^(?:(a+)+)(?=b)c$"}}})
    began = time.perf_counter()
    assert not checker.accepts('{"a": "' + "a" * 50 + '"}')
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    "schema", [{"$ref": "#"}, {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}]
)
def test_references_in_circles_end(schema: dict[str, Any]) -> None:
    checker = Checker(schema)
    assert checker.instruction
    checker.accepts('{"a": 1}')


def test_an_example_of_what_refers_to_itself_is_bounded() -> None:
    fields = {f"f{n}": {"$ref": "#/$defs/a"} for n in range(500)}
    schema = {
        "properties": {"x": {"$ref": "#/$defs/a"}},
        "$defs": {"a": {"properties": fields}},
    }
    began = time.perf_counter()
    assert len(Checker(schema).instruction) < 20_000
    assert time.perf_counter() - began < 0.5


def test_an_example_has_the_shape_of_the_schema() -> None:
    schema = {
        "properties": {
            "name": {"type": "string"},
            "kind": {"enum": ["a", "b"]},
            "tags": {"type": "array", "items": {"type": "integer"}},
            "next": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]},
        },
        "$defs": {"n": {"properties": {"ok": {"type": "boolean"}}}},
    }
    shape = '{"name":"...","kind":"a","tags":[0],"next":{"ok":true}}'
    assert Checker(schema).instruction == (
        f"Answer with one JSON object and nothing else, such as {shape}"
    )
