"""Validation of strict calls: pruning, rejecting, ending early, and bounded cost."""

import json
from typing import Any

import pytest

from maxgate.errors import InvalidRequest
from maxgate.generation.collect import CalledTool
from maxgate.generation.request import Tool
from maxgate.tool_calling.strict import StrictTools, ValidationFailed
from tests.fakes.cpu_time import limit_cpu_time

NUMBER = {"type": "integer"}


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def prune(schema: dict[str, Any], arguments: str) -> Any:
    tools = StrictTools([Tool("f", "", schema, strict=True)])
    [call] = tools.prune([CalledTool("f", arguments)])
    return json.loads(call.arguments)


@pytest.mark.parametrize(
    ("schema", "arguments", "left"),
    [
        (closed(a=NUMBER), {"a": 1, "b": 2}, {"a": 1}),
        (closed(a=closed(b=NUMBER)), {"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}),
        (
            closed(a={"type": "array", "items": {"$ref": "#/$defs/x"}})
            | {"$defs": {"x": closed(b=NUMBER)}},
            {"a": [{"b": 1, "c": 2}, {}]},
            {"a": [{"b": 1}, {}]},
        ),
        ({"type": "object", "properties": {"a": NUMBER}}, {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        (closed(a=NUMBER) | {"patternProperties": {"^b": {}}}, {"b": 2}, {"b": 2}),
    ],
)
def test_prune(schema: dict[str, Any], arguments: dict[str, Any], left: dict[str, Any]) -> None:
    """Properties that the schema does not allow are removed."""
    assert prune(schema, json.dumps(arguments)) == left


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        (closed(a=NUMBER) | {"required": ["a"]}, "{}"),
        (closed(a=NUMBER), '{"a": "b"}'),
        (closed(a={"enum": [1, 2]}), '{"a": 3}'),
        ({"$ref": "#/$defs/a", "$defs": {"a": closed(a=NUMBER)}}, '{"a": "b"}'),
        (closed(a={"type": "string"}), '{"a": "\\ud800"}'),
        pytest.param(closed(a=NUMBER), '{"a": ' + "[" * 5_000 + "]" * 5_000 + "}", id="deep"),
    ],
)
def test_mismatch(schema: dict[str, Any], arguments: str) -> None:
    """Calls that do not match after pruning are rejected."""
    with pytest.raises(ValidationFailed, match="f"):
        prune(schema, arguments)


@pytest.mark.parametrize(
    ("schema", "so_far", "more", "ends"),
    [
        (closed(a=NUMBER), '{"a": 1', ', "b": "', True),
        (closed(a=NUMBER), '{"a": 1', ', "a": 2', False),
        (closed(a=NUMBER, b=NUMBER) | {"required": ["a", "b"]}, '{"a": 1', ', "c": 2', False),
        (closed(a=NUMBER), '{"a": "text', ", text", False),
        ({"properties": {"a": NUMBER}}, '{"a": 1', ', "b": 2', False),
    ],
)
def test_must_end(schema: dict[str, Any], so_far: str, more: str, ends: bool) -> None:
    """A complete call ends before an argument that is not allowed."""
    tools = StrictTools([Tool("f", "", schema, strict=True)])
    assert tools.must_end(CalledTool("f", so_far), more) is ends


def test_other_tools() -> None:
    """Calls of other tools are not validated."""
    tools = StrictTools([Tool("f", "", {"type": "wat"}), Tool("g", "", closed(), strict=True)])
    call = CalledTool("f", '{"a": 1}')
    assert tools.prune([call]) == (call,)


def test_circular_references() -> None:
    """Circular references are followed a limited number of times."""
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#"}}}
    assert prune(schema, '{"a": 1}') == {"a": 1}


def test_patterns_of_many_tools() -> None:
    """The patterns of all strict tools are limited together, before any is compiled."""
    pattern = {"properties": {"a": {"pattern": "(?=a)(a{1,90}){1,90}"}}}
    tools = [Tool(f"f{n}", "", pattern, strict=True) for n in range(128)]
    with limit_cpu_time(0.5), pytest.raises(InvalidRequest, match="at most 64 patterns"):
        StrictTools(tools)
