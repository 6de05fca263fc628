"""Forced tool choice: a grammar, or the start of a call that the model continues."""

from dataclasses import replace

import pytest

from maxgate.errors import InvalidRequest
from maxgate.generation.catalog import Capabilities
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.json_schema import JsonValidator
from maxgate.generation.request import GenerationRequest, Tool, ToolUse
from maxgate.tool_calling.choice import find_closest_name, force_call, write_call_schema
from tests.fakes.backend import FakeBackend
from tests.fakes.requests import generation_request, served_model

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER, SEARCH = Tool("get_weather", "", CITY), Tool("search", "", {})
GRAMMAR = replace(served_model(), capabilities=Capabilities(grammar=True))


def make_request(*forced: str) -> GenerationRequest:
    return generation_request(stop=("x",))._replace(tool_use=ToolUse((WEATHER, SEARCH), forced))


async def test_one_tool() -> None:
    """The prefix starts the call up to its first argument, without an engine call."""
    backend, request = FakeBackend([]), make_request("get_weather")
    assert await force_call(backend, request, can_prefix=True) == (
        request._replace(prefix='{"name": "get_weather", "parameters": {"city": "'),
        Usage(0, 0),
    )
    assert backend.requests == []


async def test_several_tools() -> None:
    """The model writes the name in one short plain request, and the closest tool is taken."""
    backend = FakeBackend([Chunk('{"name": "sea", 1', "length", Usage(9, 2))])
    request = make_request("get_weather", "search")
    assert await force_call(backend, request, can_prefix=True) == (
        request._replace(prefix='{"name": "search", "parameters": {}}'),
        Usage(9, 2),
    )
    [question] = backend.requests
    sampling = (question.sampling.max_tokens, question.sampling.temperature, question.sampling.stop)
    assert sampling == (24, 0, ())
    assert (question.prefix, question.tool_use, question.output) == ('{"name": "', None, None)
    assert '"name": "search"' in question.messages[0].parts[-1]


async def test_grammar() -> None:
    """An engine with a grammar gets the schema of the calls."""
    request = make_request("search")._replace(model=GRAMMAR)
    assert await force_call(FakeBackend([]), request, can_prefix=False) == (
        request._replace(grammar=write_call_schema([SEARCH])),
        Usage(0, 0),
    )


async def test_unenforceable() -> None:
    """Without grammar and prefix, a call cannot be enforced."""
    with pytest.raises(InvalidRequest, match="a tool call cannot be enforced") as caught:
        await force_call(FakeBackend([]), make_request("search"), can_prefix=False)
    assert (caught.value.param, caught.value.code) == ("tool_choice", "unsupported_parameter")


@pytest.mark.parametrize(
    ("text", "name"), [("search", "search"), ("set", "search"), ("", "get"), ("getting", "get")]
)
def test_closest_name(text: str, name: str) -> None:
    """The name with the longest common prefix is closest; the first of several."""
    assert find_closest_name(text, ["get", "search"]) == name


def test_call_schema() -> None:
    """A call may have only declared arguments; several tools make a union of their calls."""
    search, weather = write_call_schema([SEARCH]), write_call_schema([WEATHER])
    for schema, name, parameters in (
        (search, "search", {"type": "object", "properties": {}, "additionalProperties": False}),
        (weather, "get_weather", {**CITY, "additionalProperties": False}),
    ):
        assert schema == {
            "type": "object",
            "properties": {"name": {"const": name}, "parameters": parameters},
            "required": ["name", "parameters"],
            "additionalProperties": False,
        }
    assert write_call_schema([SEARCH, WEATHER]) == {"anyOf": [search, weather]}


def test_call_schema_with_references() -> None:
    """References in a tool's parameters lead to the same places as before."""
    parameters = {
        "type": "object",
        "properties": {"from": {"$ref": "#/$defs/place"}, "$ref": {"$ref": "#/properties/from"}},
        "required": ["from"],
        "$defs": {"place": {"type": "object", "properties": {"next": {"$ref": "#"}}}},
    }
    schema = write_call_schema([Tool("travel", "", parameters), SEARCH])
    validator = JsonValidator(schema, subject="a call", param="tools")
    calls = {
        '{"name": "travel", "parameters": {"from": {"next": {"from": {}}}, "$ref": {}}}': True,
        '{"name": "travel", "parameters": {"from": {"next": {"to": 1}}}}': False,
        '{"name": "travel", "parameters": {"from": {}, "$ref": 1}}': False,
        '{"name": "search", "parameters": {}}': True,
    }
    assert {call: validator.matches(call) for call in calls} == calls
