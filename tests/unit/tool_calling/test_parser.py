import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maxgate.generation.chunk import ToolCallDelta
from maxgate.generation.request import Tool
from maxgate.tool_calling.parser import ToolCallParser
from tests.unit.prompts.tool_answers import SEARCH, VARIANTS, WEATHER, A, folded, read


@pytest.mark.parametrize("variant", VARIANTS)
def test_calls_are_found_in_whichever_way_they_are_written(variant: str) -> None:
    text, prose, calls = VARIANTS[variant]
    expected = [(n, '{"query": "a sent"}' if a is None else a) for n, a in calls]
    assert read([text]) == (text if prose is None else prose, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_character_at_a_time_gives_the_same(variant: str) -> None:
    text = VARIANTS[variant][0]
    assert read(list(text)) == read([text])


FRAGMENTS = [text for text, _, _ in VARIANTS.values()]
ANSWERS = st.lists(
    st.one_of(
        st.sampled_from(FRAGMENTS),
        st.sampled_from(["\n", "```", "]", "[", "{", "}", '"', "'", "\\", "search", ", ", "("]),
        st.text(max_size=8),
    ),
    max_size=5,
).map("".join)


@given(ANSWERS, st.lists(st.integers(0, 400)), st.booleans(), st.booleans())
def test_however_the_text_is_split_the_answer_is_the_same(
    text: str, cuts: list[int], complete: bool, parallel: bool
) -> None:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[start:end] for start, end in pairwise(places)]
    in_pieces = read(pieces, complete=complete, parallel=parallel)
    assert in_pieces == read([text], complete=complete, parallel=parallel)


@given(ANSWERS)
def test_arguments_are_always_an_object_of_json(text: str) -> None:
    for _, arguments in read([text])[1]:
        assert isinstance(json.loads(arguments), dict)


@given(ANSWERS, st.integers(0, 400))
@example('[search(query="a"), unknown()]', 10)
def test_a_truncated_answer_gives_a_prefix(text: str, length: int) -> None:
    whole = ToolCallParser([WEATHER, SEARCH])
    everything = folded(whole.feed(text) + whole.finish(complete=False))
    start = ToolCallParser([WEATHER, SEARCH])
    events = start.feed(text[:length])
    begun = folded(events)
    assert everything[0].startswith(begun[0])
    for (name, arguments), (whole_name, whole_arguments) in zip(
        begun[1], everything[1], strict=False
    ):
        assert name == whole_name
        assert whole_arguments.startswith(arguments)
    assert len(begun[1]) <= len(everything[1])
    start.finish(complete=True)


def test_text_is_passed_on_as_soon_as_it_can_be_no_call() -> None:
    parser = ToolCallParser([SEARCH])
    assert [parser.feed(piece) for piece in ("Good", " day", ".\n", "{", "x")] == [
        ["Good"],
        [" day"],
        ["."],
        [],
        ["\n", "{x"],
    ]


def test_a_call_is_streamed_name_first_then_its_arguments() -> None:
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


def test_the_special_token_begins_a_call_in_the_middle_of_a_line() -> None:
    parser = ToolCallParser([SEARCH])
    events = parser.feed("Let me see.")
    events += parser.feed(f'{{"name": "search", "parameters": {A}}}', tagged=True)
    assert folded(events + parser.finish(complete=True)) == ("Let me see.", [("search", A)])


def test_without_parallel_calls_nothing_follows_the_first() -> None:
    parser = ToolCallParser([SEARCH], parallel=False)
    events = parser.feed(f'{{"name": "search", "parameters": {A}}}; {{"name": "search"')
    assert parser.enough
    assert folded(events + parser.finish(complete=True)) == ("", [("search", A)])


def test_arguments_that_are_cut_inside_a_string_of_json_are_closed() -> None:
    text = '{"name": "search", "arguments": "{\\"query\\": \\"a'
    assert read([text]) == ("", [("search", "{}")])
    assert read([text], complete=False) == ("", [("search", "")])


def test_a_name_that_is_no_text_makes_no_call() -> None:
    text = f'{{"parameters": {A}, "name": ["search"]}}'
    assert read([text]) == (text, [])


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
def test_a_schema_that_says_nothing_of_an_argument_leaves_it_as_it_is(
    schema: dict[str, Any], text: str
) -> None:
    parser = ToolCallParser([Tool("f", "", schema)])
    events = parser.feed(text) + parser.finish(complete=True)
    assert folded(events) == ("", [("f", '{"a": 1}')])
