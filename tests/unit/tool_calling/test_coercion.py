"""Arguments are converted to the types of the schema if nothing is lost."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.tool_calling.coercion import Coercion
from tests.fakes.cpu_time import limit_cpu_time

SCHEMA = {
    "type": "object",
    "properties": {
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "exact": {"type": "boolean"},
        "name": {"type": "string"},
        "either": {"type": ["integer", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "pair": {
            "type": "array",
            "prefixItems": [{"type": "integer"}],
            "items": {"type": "string"},
        },
        "place": {"$ref": "#/$defs/place"},
        "places": {"type": "array", "items": {"$ref": "#/$defs/place"}},
        "level": {"enum": [1, 2, 3]},
        "mode": {"enum": ["1", "b"]},
        "on": {"const": True},
        "number_or_null": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "text_or_number": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "place_or_id": {"oneOf": [{"type": "integer"}, {"$ref": "#/$defs/place"}]},
        "both": {"allOf": [{"type": "integer"}, {"minimum": 0}]},
        "scores": {"type": "object", "additionalProperties": {"type": "number"}},
        "untyped": {"properties": {"n": {"type": "integer"}}},
        "anything": {},
        "itself": {"$ref": "#"},
        "nowhere": {"$ref": "#/$defs/none"},
        "circle": {"$ref": "#/$defs/circle"},
    },
    "required": ["count"],
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"x": {"type": "integer"}, "label": {"type": "string"}},
            "required": ["x"],
        },
        "circle": {"$ref": "#/$defs/circle"},
    },
}


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("count", "5", 5),
        ("count", " 5 ", 5),
        ("count", 5.0, 5),
        ("count", 5.5, 5.5),
        ("count", "five", "five"),
        ("count", True, True),
        ("count", "1e400", "1e400"),
        ("ratio", "0.5", 0.5),
        *[("ratio", text, text) for text in ("1e400", "-1e400", "9" * 5000, "NaN")],
        ("ratio", '{"a": 1e400}', '{"a": 1e400}'),
        ("ratio", 1, 1),
        ("exact", "true", True),
        ("exact", "True", True),
        ("exact", 1, 1),
        ("name", 5, "5"),
        ("name", True, "true"),
        ("name", None, None),
        ("name", {"a": 1}, {"a": 1}),
        ("either", "null", None),
        ("either", "7", 7),
        ("tags", [1, "a"], ["1", "a"]),
        ("tags", '["a", 2]', ["a", "2"]),
        ("tags", "a", "a"),
        ("pair", ["1", 2], [1, "2"]),
        ("place", {"x": "1", "label": 2, "more": "3"}, {"x": 1, "label": "2", "more": "3"}),
        ("place", '{"x": "1"}', {"x": 1}),
        ("places", [{"x": "1"}, "{'x': 2}"], [{"x": 1}, {"x": 2}]),
        ("level", "2", 2),
        ("level", 2.0, 2),
        ("level", "4", "4"),
        ("mode", 1, "1"),
        ("mode", "b", "b"),
        ("on", "true", True),
        ("number_or_null", "1.5", 1.5),
        ("number_or_null", "null", None),
        ("number_or_null", "None", None),
        ("number_or_null", "x", "x"),
        ("text_or_number", "51", "51"),
        ("text_or_number", 5, 5),
        ("text_or_number", True, "true"),
        ("place_or_id", "5", 5),
        ("place_or_id", {"x": "5"}, {"x": 5}),
        ("place_or_id", {"y": "5"}, {"y": "5"}),
        ("both", "5", 5),
        ("scores", {"a": "1", "b": "x"}, {"a": 1, "b": "x"}),
        ("untyped", {"n": "1"}, {"n": 1}),
        ("untyped", "1", "1"),
        ("anything", "5", "5"),
        ("unknown", "5", "5"),
        ("itself", {"count": "5", "itself": {"count": "6"}}, {"count": 5, "itself": {"count": 6}}),
        ("nowhere", "5", "5"),
        ("circle", "5", "5"),
    ],
)
def test_coerce(name: str, given: Any, expected: Any) -> None:
    """A value is converted to the type of its schema, and converting again changes nothing."""
    changed = Coercion(SCHEMA).coerce(name, given)
    assert (changed, type(changed)) == (expected, type(expected))
    assert Coercion(SCHEMA).coerce(name, expected) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("name", True),
        ("mode", True),
        ("anything", True),
        ("unknown", True),
        ("text_or_number", True),
        ("count", False),
        ("either", False),
        ("level", False),
        ("on", False),
        ("number_or_null", False),
        ("place", False),
        ("place_or_id", False),
        ("untyped", False),
        ("both", False),
        ("circle", False),
    ],
)
def test_keeps_strings(name: str, *, expected: bool) -> None:
    """Strings may be streamed if the schema changes none of them."""
    assert Coercion(SCHEMA).keeps_strings(name) is expected


@given(text=st.text(), name=st.sampled_from(list(SCHEMA["properties"])))
def test_streamed_strings(text: str, name: str) -> None:
    """A string that may be streamed is never converted."""
    coercion = Coercion(SCHEMA)
    if coercion.keeps_strings(name):
        assert coercion.coerce(name, text) == text


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": 1},
        {"properties": {"a": 1}},
        {"properties": {"a": {"type": 5, "enum": 5, "anyOf": 5, "items": 5, "$ref": 5}}},
        {"properties": {"a": {"type": "wat", "prefixItems": {}, "required": 5}}},
        {"properties": {"a": {"anyOf": [5, None], "allOf": [5], "properties": []}}},
    ],
)
def test_invalid_schemas(schema: dict[str, Any]) -> None:
    """Invalid schemas change nothing."""
    for value in ("5", 5, [1], {"b": 1}):
        assert Coercion(schema).coerce("a", value) == value


def test_bounded_work() -> None:
    """References that double with each step are followed in bounded time."""
    steps = {f"s{n}": {"anyOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(40)}
    schema = {
        "properties": {"a": {"$ref": "#/$defs/s0"}},
        "$defs": {**steps, "s40": {"type": "integer"}},
    }
    with limit_cpu_time(0.5):
        Coercion(schema).coerce("a", json.loads('[{"b":' * 100 + "1" + "}]" * 100))
        Coercion(schema).keeps_strings("a")
