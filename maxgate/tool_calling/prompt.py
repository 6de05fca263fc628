"""Write tool definitions, earlier calls and their results into the prompt as text.

The notations of a call are those of Meta's prompt format for Llama 3.3: a JSON object, a list of
Python calls, or a function tag.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from maxgate.generation.request import Message, ToolCall, ToolUse
from maxgate.model_cards.card import ToolStyle
from maxgate.tool_calling.values import read_value, write_value

_CALL_INSTRUCTIONS: Final[Mapping[ToolStyle, str]] = {
    "json": (
        "To call a function, answer only with a JSON object of this form, and nothing else:\n"
        '{"name": "<name of the function>", "parameters": {"<argument>": <value>}}\n'
        "Write several calls one after the other, separated by semicolons."
    ),
    "python_list": (
        "To call functions, answer only with a list of calls of this form, and nothing else:\n"
        "[first_function(argument='value', other=1), second_function(argument=2)]"
    ),
    "function_tag": (
        "To call a function, answer only with its name and its arguments as JSON, on one line:\n"
        '<function=name_of_the_function>{"argument": "value"}</function>'
    ),
}
_ONE_AT_A_TIME: Final = "Call one function at a time."
_TEXT_OTHERWISE: Final = "If no function is needed, answer the user in plain text."


def write_tools(
    messages: Sequence[Message], use: ToolUse | None, style: ToolStyle
) -> tuple[Message, ...]:
    """Return the messages with tool definitions and earlier calls written as text.

    Definitions follow the text of the first system message; without one, it is added.
    """
    written = tuple([_write_message(m, style) if m.calls else m for m in messages])
    if use is None:
        return written
    definitions = _write_definitions(use, style)
    if written and written[0].role == "system":
        first, *rest = written
        return (first._replace(parts=(*first.parts, "\n\n", definitions)), *rest)
    return (Message("system", (definitions,)), *written)


def _write_definitions(use: ToolUse, style: ToolStyle) -> str:
    definitions = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        for tool in use.tools
    ]
    functions = json.dumps(definitions, ensure_ascii=False)
    lines = ["You can call these functions:", functions, _CALL_INSTRUCTIONS[style]]
    if not use.parallel:
        lines.append(_ONE_AT_A_TIME)
    if not use.forced:
        lines.append(_TEXT_OTHERWISE)
    return "\n".join(lines)


def _write_message(message: Message, style: ToolStyle) -> Message:
    text = "\n" if any(message.parts) else ""
    return Message(message.role, (*message.parts, text + _CALL_WRITERS[style](message.calls)))


def _write_json_calls(calls: Sequence[ToolCall]) -> str:
    return "; ".join(
        write_value({"name": call.name, "parameters": read_value(call.arguments)}) for call in calls
    )


def _write_python_list(calls: Sequence[ToolCall]) -> str:
    arguments = [read_value(call.arguments) for call in calls]
    if not all(isinstance(a, dict) and all(map(str.isidentifier, a)) for a in arguments):
        return _write_json_calls(calls)
    written = [
        f"{call.name}({', '.join(f'{name}={value!r}' for name, value in given.items())})"
        for call, given in zip(calls, arguments, strict=True)
    ]
    return f"[{', '.join(written)}]"


def _write_function_tags(calls: Sequence[ToolCall]) -> str:
    return "\n".join(f"<function={c.name}>{c.arguments}</function>" for c in calls)


_CALL_WRITERS: Final[Mapping[ToolStyle, Callable[[Sequence[ToolCall]], str]]] = {
    "json": _write_json_calls,
    "python_list": _write_python_list,
    "function_tag": _write_function_tags,
}
