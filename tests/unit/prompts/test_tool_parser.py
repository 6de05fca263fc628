import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maxgate.generation.events import ToolCallDelta
from maxgate.generation.request import Tool
from maxgate.prompts.tool_parser import Event, ToolCallParser

WEATHER = Tool(
    "get_weather",
    "",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "metric": {"type": "boolean"},
            "tags": {"type": "array"},
        },
    },
)
SEARCH = Tool("search", "", {"type": "object", "properties": {"query": {"type": "string"}}})

Answer = tuple[str, list[tuple[str, str]]]


def folded(events: list[Event]) -> Answer:
    """The text, and each call's name and arguments."""
    text, calls = "", []
    for event in events:
        if isinstance(event, str):
            text += event
        elif event.name is not None:
            assert event.call == len(calls)
            calls.append([event.name, event.arguments])
        else:
            calls[event.call][1] += event.arguments
    return text, [(name, arguments) for name, arguments in calls]


def read(pieces: list[str], *, complete: bool = True, parallel: bool = True) -> Answer:
    parser = ToolCallParser([WEATHER, SEARCH], parallel=parallel)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return folded(events + parser.finish(complete=complete))


A, B = '{"query": "a"}', '{"query": "b"}'
VARIANTS = {
    "bare object": (f'{{"name": "search", "parameters": {A}}}', "", [("search", A)]),
    "python tag": (f'<|python_tag|>{{"name": "search", "parameters": {A}}}', "", [("search", A)]),
    "type": (
        f'{{"type": "function", "name": "search", "parameters": {A}}}',
        "",
        [("search", A)],
    ),
    "type at the end": (
        f'{{"name": "search", "parameters": {A}, "type": "function"}}',
        "",
        [("search", A)],
    ),
    "nested function": (
        f'{{"type": "function", "function": {{"name": "search", "arguments": {A}}}}}',
        "",
        [("search", A)],
    ),
    "arguments": (f'{{"name": "search", "arguments": {A}}}', "", [("search", A)]),
    "arguments as a string of JSON": (
        '{"name": "search", "arguments": "{\\"query\\": \\"a\\"}"}',
        "",
        [("search", A)],
    ),
    "arguments before the name": (
        f'{{"parameters": {A}, "name": "search"}}',
        "",
        [("search", A)],
    ),
    "no arguments": ('{"name": "search"}', "", [("search", "{}")]),
    "null for arguments": ('{"name": "search", "parameters": null}', "", [("search", "{}")]),
    **{
        f"two, separated by {separator!r}": (
            f'{{"name": "search", "parameters": {A}}}{separator}'
            f'{{"name": "search", "parameters": {B}}}',
            "",
            [("search", A), ("search", B)],
        )
        for separator in (";", "; ", "\n", "", ", ", " ", ";\n\n", "\n<|python_tag|>")
    },
    "fenced": (
        f'```json\n{{"name": "search", "parameters": {A}}}\n```',
        "",
        [("search", A)],
    ),
    "array": (
        f'[{{"name": "search", "parameters": {A}}}, {{"name": "search", "parameters": {B}}}]',
        "",
        [("search", A), ("search", B)],
    ),
    "python list": (
        "[get_weather(city='Paris', days=2, metric=True), search(query=\"it's\"), search()]",
        "",
        [
            ("get_weather", '{"city": "Paris", "days": 2, "metric": true}'),
            ("search", '{"query": "it\'s"}'),
            ("search", "{}"),
        ],
    ),
    "function tag": (f"<function=search>{A}</function>", "", [("search", A)]),
    "built-in call": ('search.call(query="a")', "", [("search", A)]),
    "Python's quotes and names": (
        "{'name': 'get_weather', 'parameters': {'city': 'Rome', 'metric': True, 'tags': None}}",
        "",
        [("get_weather", '{"city": "Rome", "metric": true, "tags": null}')],
    ),
    "leading space": (f'  \n{{"name": "search", "parameters": {A}}}', "", [("search", A)]),
    "text before": (
        f'I shall look.\n\n{{"name": "search", "parameters": {A}}}',
        "I shall look.",
        [("search", A)],
    ),
    "text after": (
        f'{{"name": "search", "parameters": {A}}} That is all.',
        "That is all.",
        [("search", A)],
    ),
    "escapes": (
        '{"name": "search", "parameters": {"query": "\\"\\u00e9\\\\ \\ud83d\\ude00\\n"}}',
        "",
        [("search", '{"query": "\\"é\\\\ 😀\\n"}')],
    ),
    "brackets in strings": (
        '{"name": "get_weather", "parameters": {"city": "}]{", "tags": ["}", {"a": "]"}]}}',
        "",
        [("get_weather", '{"city": "}]{", "tags": ["}", {"a": "]"}]}')],
    ),
    "a number as text, where a number is asked for": (
        '{"name": "get_weather", "parameters": {"days": "5", "metric": "true"}}',
        "",
        [("get_weather", '{"days": 5, "metric": true}')],
    ),
    "a number, where text is asked for": (
        '{"name": "search", "parameters": {"query": 5}}',
        "",
        [("search", '{"query": "5"}')],
    ),
    "what cannot be converted stays": (
        '{"name": "get_weather", "parameters": {"days": "soon"}}',
        "",
        [("get_weather", '{"days": "soon"}')],
    ),
    "truncated": ('{"name": "search", "parameters": {"query": "a tru', "", [("search", None)]),
    "text": ("Hello.\nHow are you?", None, []),
    "braces": ('Use {braces} like {"name": "x"}\n{"b": [1]}\nend', None, []),
    "another tool": ('{"name": "rm", "parameters": {"path": "/"}}', None, []),
    "a list": ("[1, 2]", None, []),
    "a name of a tool in prose": ("search. It is", None, []),
    "JSON that is an answer": ('{"answer": 42}', None, []),
    "nothing": ("", None, []),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_calls_are_found_in_whichever_way_they_are_written(variant: str) -> None:
    text, prose, calls = VARIANTS[variant]
    expected = [(n, '{"query": "a tru"}' if a is None else a) for n, a in calls]
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
    assert [parser.feed(piece) for piece in ("Hel", "lo", ".\n", "{", "x")] == [
        ["Hel"],
        ["lo"],
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
