"""What of a call is left, and what makes it none."""

import json
import time
from typing import Any

import pytest

from maxgate.errors import InvalidRequest
from maxgate.generation.collect import CalledTool
from maxgate.generation.request import Tool
from maxgate.tool_calling.strict import StrictTools, ValidationFailed

NUMBER = {"type": "integer"}


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def fitted(schema: dict[str, Any], arguments: str) -> Any:
    tools = StrictTools([Tool("f", "", schema, strict=True)])
    [call] = tools.fitted([CalledTool("f", arguments)])
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
def test_what_a_schema_leaves_no_room_for_is_left_out(
    schema: dict[str, Any], arguments: dict[str, Any], left: dict[str, Any]
) -> None:
    assert fitted(schema, json.dumps(arguments)) == left


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        (closed(a=NUMBER) | {"required": ["a"]}, "{}"),
        (closed(a=NUMBER), '{"a": "b"}'),
        (closed(a={"enum": [1, 2]}), '{"a": 3}'),
        ({"$ref": "#/$defs/a", "$defs": {"a": closed(a=NUMBER)}}, '{"a": "b"}'),
        (closed(a={"type": "string"}), '{"a": "\\ud800"}'),
    ],
)
def test_what_does_not_fit_is_no_call(schema: dict[str, Any], arguments: str) -> None:
    with pytest.raises(ValidationFailed, match="f"):
        fitted(schema, arguments)


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
def test_a_call_ends_before_a_field_that_it_may_not_have(
    schema: dict[str, Any], so_far: str, more: str, ends: bool
) -> None:
    tools = StrictTools([Tool("f", "", schema, strict=True)])
    assert tools.ends_before(CalledTool("f", so_far), more) is ends


def test_other_tools_are_left_alone() -> None:
    tools = StrictTools([Tool("f", "", {"type": "wat"}), Tool("g", "", closed(), strict=True)])
    call = CalledTool("f", '{"a": 1}')
    assert tools.fitted([call]) == (call,)


def test_a_schema_that_goes_in_circles_is_followed_for_a_while() -> None:
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#"}}}
    assert fitted(schema, '{"a": 1}') == {"a": 1}


def test_many_tools_with_many_patterns_are_refused_at_once() -> None:
    pattern = {"properties": {"a": {"pattern": "(?=a)(a{1,90}){1,90}"}}}
    tools = [Tool(f"f{n}", "", pattern, strict=True) for n in range(128)]
    began = time.perf_counter()
    with pytest.raises(InvalidRequest, match="at most 64 patterns"):
        StrictTools(tools)
    assert time.perf_counter() - began < 0.5
