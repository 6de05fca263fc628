"""Where a forced call ends: with its declared arguments, unless its schema allows others."""

from typing import Any

import pytest

from maxgate.generation.request import Tool
from maxgate.tool_calling.declared import NO_ARGUMENTS, DeclaredArguments, close_schema
from maxgate.tool_calling.parser import ToolCallParser
from tests.unit.tool_calling.call_variants import Parsed, fold_events

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
OPEN = [
    {"additionalProperties": True},
    {"additionalProperties": {"type": "string"}},
    {"patternProperties": {"^x": {}}},
    {"allOf": [{"properties": {"country": {}}}]},
    {"$ref": "#/$defs/place"},
    {"required": ["country"]},
]


def parse_forced(schema: dict[str, Any], *pieces: str) -> tuple[Parsed, bool]:
    """Parse the pieces of a forced call; return the result and whether the parser is done."""
    parser = ToolCallParser([Tool("f", "", schema)], forced=True)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return fold_events(events), parser.done


@pytest.mark.parametrize(
    "parameters",
    [{}, {"type": "object"}, {"type": "object", "properties": {}, "title": "Now"}, NO_ARGUMENTS],
)
def test_no_arguments(parameters: dict[str, Any]) -> None:
    """A tool without declared parameters takes no arguments."""
    assert DeclaredArguments(parameters).none
    assert close_schema(parameters) == NO_ARGUMENTS


@pytest.mark.parametrize("extra", OPEN)
def test_open_schemas(extra: dict[str, Any]) -> None:
    """A schema that allows other arguments stays as it is."""
    schema = {"type": "object", **extra}
    assert not DeclaredArguments(schema).none
    assert close_schema({**CITY, **extra}) == {**CITY, **extra}


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"city": "Rome", "days": 2, "x": 1', '{"city": "Rome", "days": 2}'),
        ('{"days": 2, "city": "Rome"', '{"days": 2, "city": "Rome"}'),
        ('{"city": "Rome", "country": "It', '{"city": "Rome"}'),
        ('{"city": "Rome", "city": "Ro', '{"city": "Rome"}'),
        ('{"city": "Rome"}, "type": "function"}', '{"city": "Rome"}'),
        ('{"x": 1, "city": "Rome", "y": 2', '{"x": 1, "city": "Rome"}'),
    ],
)
def test_forced_call(written: str, arguments: str) -> None:
    """A call ends with all its arguments, or before an undeclared or repeated one."""
    text = '{"name": "f", "parameters": ' + written
    expected = (("", [("f", arguments)]), True)
    assert parse_forced(CITY, text) == parse_forced(CITY, *text) == expected


@pytest.mark.parametrize("extra", OPEN)
def test_forced_open_call(extra: dict[str, Any]) -> None:
    """A call goes on if its schema allows other arguments."""
    text = '{"name": "f", "parameters": {"city": "Rome", "days": 2, "x": 1'
    (_, [(_, arguments)]), done = parse_forced({**CITY, **extra}, text, "}")
    assert (arguments, done) == ('{"city": "Rome", "days": 2, "x": 1}', False)
