"""The instruction has the whole schema if it fits, and less of it in fixed steps otherwise."""

import json
from typing import Any

import pytest

from maxgate.generation.request import JsonOutput
from maxgate.structured_output.instruction import write_instruction, write_schema
from tests.fakes.cpu_time import limit_cpu_time

KINDS = [f"kind {number}" for number in range(60)]
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Pet",
    "type": "object",
    "properties": {
        "title": {"type": "string", "title": "Title", "description": "Form of address"},
        "kind": {"enum": KINDS},
        "legs": {"type": "array", "items": {"type": "integer", "minimum": 1, "title": "Leg"}},
        "owner": {"anyOf": [{"$ref": "#/$defs/owner"}, {"type": "null"}]},
    },
    "required": ["title", "kind"],
    "$defs": {"owner": {"type": "object", "description": "d" * 300, "properties": {}}},
}


def describe(title: Any, kind: Any, leg: Any, owner: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "title": title,
            "kind": kind,
            "legs": {"type": "array", "items": leg},
            "owner": {"anyOf": [{"$ref": "#/$defs/owner"}, {"type": "null"}]},
        },
        "required": ["title", "kind"],
        "$defs": {"owner": {"type": "object", **owner, "properties": {}}},
    }


ADDRESS = {"type": "string", "description": "Form of address"}
WHOLE = {"title": "Pet"} | describe(
    {"type": "string", "title": "Title", "description": "Form of address"},
    {"enum": KINDS},
    {"type": "integer", "minimum": 1, "title": "Leg"},
    {"description": "d" * 300},
)
SHORTER = describe(
    ADDRESS,
    {"enum": KINDS[:50], "enumValuesLeftOut": 10},
    {"type": "integer", "minimum": 1},
    {"description": "d" * 197 + "..."},
)
SHAPE = describe(
    ADDRESS,
    {"enum": KINDS[:10], "enumValuesLeftOut": 50},
    {"type": "integer"},
    {"description": "d" * 57 + "..."},
)
NO_DESCRIPTIONS = describe(
    {"type": "string"}, {"enum": KINDS[:5], "enumValuesLeftOut": 55}, {"type": "integer"}, {}
)


@pytest.mark.parametrize(
    ("max_characters", "expected"),
    [(8000, WHOLE), (1100, SHORTER), (500, SHAPE), (400, NO_DESCRIPTIONS)],
)
def test_detail(max_characters: int, expected: dict[str, Any]) -> None:
    """The less space there is, the less detail is written."""
    written = write_schema(SCHEMA, max_characters)
    assert json.loads(written) == expected
    assert len(written) <= max_characters


def test_cut() -> None:
    """Even the shape is cut at the bound."""
    written = write_schema(SCHEMA, 50)
    assert (written[:25], written[-3:], len(written)) == ('{"type":"object","propert', "...", 50)


def test_with_example() -> None:
    """The example follows the schema."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    output = JsonOutput(schema, "answer", "How many?")
    assert write_instruction(output, with_example=True, max_characters=500) == (
        "The JSON schema of the answer is:\n"
        '{"description":"How many?","type":"object","properties":{"a":{"type":"integer"}}}\n'
        'Answer with one JSON object and nothing else, such as {"a":0}'
    )


def test_without_example() -> None:
    """The example is left out beside a grammar, or if it is too long."""
    output = JsonOutput({"properties": {"a": {"const": "x" * 100}}})
    expected = (
        "The JSON schema of the answer is:\n"
        '{"properties":{"a":{"const":"xxxxxxxxxxxxx...\n'
        "Answer with one JSON object and nothing else."
    )
    assert write_instruction(output, with_example=False, max_characters=45) == expected
    assert write_instruction(output, with_example=True, max_characters=45) == expected


@pytest.mark.parametrize("schema", [{}, {"type": "object"}])
def test_any_object(schema: dict[str, Any]) -> None:
    """A schema that says nothing is not written."""
    assert write_instruction(JsonOutput(schema), with_example=True, max_characters=500) == (
        "Answer with one JSON object and nothing else."
    )


def test_large_schema() -> None:
    """A large schema is shortened in bounded time."""
    properties = {f"field_{n}": {"type": "string", "description": "d" * 50} for n in range(6000)}
    with limit_cpu_time(0.5):
        assert len(write_schema({"properties": properties}, 8000)) == 8000


@pytest.mark.parametrize(
    ("change", "is_written"),
    [
        ({}, False),
        ({"title": "Place"}, False),
        ({"required": []}, True),
        ({"properties": {"city": {"type": "string", "description": "In English."}}}, True),
        ({"properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}}}, True),
        ({"properties": {"city": {"type": ["string", "null"]}}}, True),
        ({"additionalProperties": {"type": "string"}}, True),
    ],
)
def test_schema_beside_example(change: dict[str, Any], *, is_written: bool) -> None:
    """A schema is written only if it says more than the example of it."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    instruction = write_instruction(
        JsonOutput({**schema, **change}), with_example=True, max_characters=1000
    )
    assert ("The JSON schema" in instruction) == is_written
