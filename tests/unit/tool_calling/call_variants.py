"""Responses with tool calls in every notation, each with the text and the calls in it."""

from maxgate.generation.request import Tool
from maxgate.tool_calling.arguments import Event
from maxgate.tool_calling.parser import ToolCallParser

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

Parsed = tuple[str, list[tuple[str, str]]]


def fold_events(events: list[Event]) -> Parsed:
    """Join the events to the text and the name and arguments of each call."""
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


def parse(pieces: list[str], *, complete: bool = True, parallel: bool = True) -> Parsed:
    parser = ToolCallParser([WEATHER, SEARCH], parallel=parallel)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return fold_events(events + parser.finish(complete=complete))


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
    "a call, then one in a fence": (
        f'{{"name": "search", "parameters": {A}}}\n'
        f'```json\n{{"name": "search", "parameters": {B}}}\n```\nend',
        "end",
        [("search", A), ("search", B)],
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
    "tool_call tag": (
        f'<tool_call>\n{{"name": "search", "arguments": {A}}}\n</tool_call>',
        "",
        [("search", A)],
    ),
    "two in tool_call tags, after text": (
        f'Let me look.\n<tool_call>\n{{"name": "search", "arguments": {A}}}\n</tool_call>\n'
        f'<tool_call>\n{{"name": "search", "arguments": {B}}}\n</tool_call>',
        "Let me look.",
        [("search", A), ("search", B)],
    ),
    "tool_call tag in a line": (
        f'I look <now>: <tool_call>{{"name": "search", "arguments": {A}}}</tool_call> and wait.',
        "I look <now>: and wait.",
        [("search", A)],
    ),
    "tool_call tag with arguments before the name": (
        f'<tool_call>{{"arguments": {A}, "name": "search"}}</tool_call>',
        "",
        [("search", A)],
    ),
    "function tag in a tool_call tag": (
        f"<tool_call>\n<function=search>{A}</function>\n</tool_call>",
        "",
        [("search", A)],
    ),
    "truncated in a tool_call tag": (
        '<tool_call>\n{"name": "search", "arguments": {"query": "a sent',
        "",
        [("search", None)],
    ),
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
    "truncated": ('{"name": "search", "parameters": {"query": "a sent', "", [("search", None)]),
    "text": ("Hello.\nHow are you?", None, []),
    "braces": ('Use {braces} like {"name": "x"}\n{"b": [1]}\nend', None, []),
    "another tool": ('{"name": "rm", "parameters": {"path": "/"}}', None, []),
    "another tool in a tool_call tag": (
        '<tool_call>\n{"name": "rm", "arguments": {}}\n</tool_call>',
        None,
        [],
    ),
    "tool_call tags in prose": ("The <tool_call> tag, <tool_call><tool_call", None, []),
    "a tool_call tag around prose": ("<tool_call>search</tool_call>\n</tool_call> end", None, []),
    "a list": ("[1, 2]", None, []),
    "a name of a tool in prose": ("search. It is", None, []),
    "JSON that is an answer": ('{"answer": 42}', None, []),
    "nothing": ("", None, []),
}
