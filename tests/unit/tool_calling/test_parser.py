"""Tool calls are found in every notation, at any chunk boundary, with valid JSON arguments."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maxgate.generation.chunk import ToolCallDelta
from maxgate.generation.request import Tool
from maxgate.tool_calling.parser import ToolCallParser
from tests.unit.tool_calling.call_variants import (
    SEARCH,
    VARIANTS,
    WEATHER,
    A,
    fold_events,
    parse,
)


@pytest.mark.parametrize("variant", VARIANTS)
def test_notations(variant: str) -> None:
    """Calls are found in every notation."""
    text, prose, calls = VARIANTS[variant]
    expected = [(n, '{"query": "a sent"}' if a is None else a) for n, a in calls]
    assert parse([text]) == (text if prose is None else prose, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_single_characters(variant: str) -> None:
    """Feeding one character at a time gives the same result."""
    text = VARIANTS[variant][0]
    assert parse(list(text)) == parse([text])


FRAGMENTS = [text for text, _, _ in VARIANTS.values()]
RESPONSES = st.lists(
    st.one_of(
        st.sampled_from(FRAGMENTS),
        st.sampled_from(
            ["\n", "```", "<tool_call>", "]", "[", "{", "}", '"', "'", "\\", "search", ", ", "("]
        ),
        st.text(max_size=8),
    ),
    max_size=5,
).map("".join)


@given(RESPONSES, st.lists(st.integers(0, 400)), st.booleans(), st.booleans())
def test_any_split(text: str, cuts: list[int], complete: bool, parallel: bool) -> None:
    """Chunk boundaries do not change the result."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[start:end] for start, end in pairwise(places)]
    in_pieces = parse(pieces, complete=complete, parallel=parallel)
    assert in_pieces == parse([text], complete=complete, parallel=parallel)


@given(RESPONSES)
def test_arguments_are_json(text: str) -> None:
    """Arguments are always a JSON object."""
    for _, arguments in parse([text])[1]:
        assert isinstance(json.loads(arguments), dict)


@given(RESPONSES, st.integers(0, 400))
@example('[search(query="a"), unknown()]', 10)
def test_truncated_response(text: str, length: int) -> None:
    """A truncated response gives a prefix of the whole result."""
    whole = ToolCallParser([WEATHER, SEARCH])
    everything = fold_events(whole.feed(text) + whole.finish(complete=False))
    start = ToolCallParser([WEATHER, SEARCH])
    events = start.feed(text[:length])
    begun = fold_events(events)
    assert everything[0].startswith(begun[0])
    for (name, arguments), (whole_name, whole_arguments) in zip(
        begun[1], everything[1], strict=False
    ):
        assert name == whole_name
        assert whole_arguments.startswith(arguments)
    assert len(begun[1]) <= len(everything[1])
    start.finish(complete=True)


def test_text_is_released() -> None:
    """Text is passed on as soon as it cannot be a call."""
    parser = ToolCallParser([SEARCH])
    assert [parser.feed(piece) for piece in ("Good", " day", ".\n", "{", "x")] == [
        ["Good"],
        [" day"],
        ["."],
        [],
        ["\n", "{x"],
    ]


def test_streamed_call() -> None:
    """A call is streamed: first its name, then pieces of its arguments."""
    parser = ToolCallParser([SEARCH])
    pieces = ['{"name": "sea', 'rch", "parameters": {"query": "long', " words", '"', "}}"]
    assert [parser.feed(piece) for piece in pieces] == [
        [],
        [
            ToolCallDelta(0, "search"),
            ToolCallDelta(0, None, "{"),
            ToolCallDelta(0, None, '"query": "'),
            ToolCallDelta(0, None, "long"),
        ],
        [ToolCallDelta(0, None, " words")],
        [ToolCallDelta(0, None, '"')],
        [ToolCallDelta(0, None, "}")],
    ]


def test_call_tag() -> None:
    """After the special token, a call may start in the middle of a line."""
    parser = ToolCallParser([SEARCH])
    events = parser.feed("Let me see.")
    events += parser.feed(f'{{"name": "search", "parameters": {A}}}', tagged=True)
    assert fold_events(events + parser.finish(complete=True)) == ("Let me see.", [("search", A)])


def test_single_call() -> None:
    """Without parallel calls, what follows the first call is dropped."""
    parser = ToolCallParser([SEARCH], parallel=False)
    events = parser.feed(f'{{"name": "search", "parameters": {A}}}; {{"name": "search"')
    assert parser.done
    assert fold_events(events + parser.finish(complete=True)) == ("", [("search", A)])


def test_truncated_json_string() -> None:
    """Arguments truncated inside a string of JSON become an empty object."""
    text = '{"name": "search", "arguments": "{\\"query\\": \\"a'
    assert parse([text]) == ("", [("search", "{}")])
    assert parse([text], complete=False) == ("", [("search", "")])


def test_invalid_name() -> None:
    """An object whose name is not a string is text."""
    text = f'{{"parameters": {A}, "name": ["search"]}}'
    assert parse([text]) == (text, [])


ODD_SCHEMAS = [
    {"properties": {"a": True}},
    {"properties": {"a": {"type": [["string"], 5]}}},
    {"properties": [1]},
    {"properties": None},
]


@pytest.mark.parametrize("schema", ODD_SCHEMAS)
@pytest.mark.parametrize(
    "text",
    [
        '{"name": "f", "parameters": {"a": 1}}',
        '{"parameters": {"a": 1}, "name": "f"}',
        '{"name": "f", "parameters": "{\\"a\\": 1}"}',
    ],
)
def test_odd_schemas(schema: dict[str, Any], text: str) -> None:
    """Arguments stay unchanged if the schema does not describe them."""
    parser = ToolCallParser([Tool("f", "", schema)])
    events = parser.feed(text) + parser.finish(complete=True)
    assert fold_events(events) == ("", [("f", '{"a": 1}')])
