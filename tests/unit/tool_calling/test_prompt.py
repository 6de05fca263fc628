"""Tool definitions and earlier calls as text in the prompt."""

import pytest

from maxgate.generation.request import Message, Tool, ToolCall, ToolUse
from maxgate.model_cards.card import ToolStyle
from maxgate.tool_calling.prompt import write_tools

CALLS = (ToolCall("1", "f", '{"a": "x", "b": true}'), ToolCall("2", "g", "{}"))
USE = ToolUse((Tool("f", "Does it", {"type": "object"}),))


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (
            "json",
            '{"name": "f", "parameters": {"a": "x", "b": true}}; {"name": "g", "parameters": {}}',
        ),
        ("python_list", "[f(a='x', b=True), g()]"),
        ("function_tag", '<function=f>{"a": "x", "b": true}</function>\n<function=g>{}</function>'),
    ],
)
def test_earlier_calls(style: ToolStyle, text: str) -> None:
    """Earlier calls follow the text of their message, in the notation of the card."""
    messages = [Message("assistant", ("",), CALLS), Message("assistant", ("Wait",), CALLS)]
    assert write_tools(messages, None, style) == (
        Message("assistant", ("", text)),
        Message("assistant", ("Wait", "\n" + text)),
    )


def test_arguments_that_python_cannot_name() -> None:
    """A list of Python calls falls back to JSON for arguments that are not identifiers."""
    messages = [Message("assistant", (), (ToolCall("1", "f", '{"a-b": 1}'),))]
    assert write_tools(messages, None, "python_list") == (
        Message("assistant", ('{"name": "f", "parameters": {"a-b": 1}}',)),
    )


def test_definitions() -> None:
    """Definitions follow the first system message, or make one."""
    user = Message("user", ("Hi",))
    added, unchanged = write_tools([user], USE, "json")
    assert (added.role, unchanged) == ("system", user)
    [definitions] = added.parts
    assert (
        '[{"name": "f", "description": "Does it", "parameters": {"type": "object"}}]' in definitions
    )
    extended, _ = write_tools([Message("system", ("Be brief.",)), user], USE, "json")
    assert extended.parts == ("Be brief.", "\n\n", definitions)


@pytest.mark.parametrize(
    ("use", "one_at_a_time", "text_otherwise"),
    [
        (USE, False, True),
        (USE._replace(parallel=False), True, True),
        (USE._replace(forced=("f",)), False, False),
    ],
)
def test_instructions(use: ToolUse, *, one_at_a_time: bool, text_otherwise: bool) -> None:
    """The instructions reflect `parallel` and whether a call is forced."""
    [message] = write_tools([], use, "json")
    text = message.parts[0]
    assert ("Call one function at a time." in text) is one_at_a_time
    assert ("answer the user in plain text" in text) is text_otherwise
