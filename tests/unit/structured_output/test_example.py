"""Examples in prompts have the shape of the schema, and a bounded size."""

import json

from maxgate.structured_output.example import make_example
from tests.fakes.cpu_time import limit_cpu_time


def test_shape() -> None:
    """Types, allowed values, arrays and references are all exemplified."""
    schema = {
        "properties": {
            "name": {"type": "string"},
            "kind": {"enum": ["a", "b"]},
            "tags": {"type": "array", "items": {"type": "integer"}},
            "next": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]},
        },
        "$defs": {"n": {"properties": {"ok": {"type": "boolean"}}}},
    }
    assert make_example(schema) == {"name": "...", "kind": "a", "tags": [0], "next": {"ok": True}}


def test_references() -> None:
    """References are followed with escapes resolved; circular ones end."""
    schema = {
        "properties": {"a/b~c d": {"type": "integer"}, "e": {"$ref": "#/properties/a~1b~0c%20d"}}
    }
    assert make_example(schema) == {"a/b~c d": 0, "e": 0}
    assert make_example({"$ref": "#"}) == "..."


def test_bounded_size() -> None:
    """A schema that refers to itself many times gives a short example in bounded time."""
    fields = {f"f{n}": {"$ref": "#/$defs/a"} for n in range(500)}
    schema = {
        "properties": {"x": {"$ref": "#/$defs/a"}},
        "$defs": {"a": {"properties": fields}},
    }
    with limit_cpu_time(0.5):
        assert len(json.dumps(make_example(schema))) < 20_000
