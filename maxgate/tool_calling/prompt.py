"""Tools in prompts: their definitions, and the calls and results of earlier turns, as text.

The ways of writing a call are those of Meta's prompt format for Llama 3.3: a JSON object, a list of
Python calls, or a function tag.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from maxgate.generation.request import Message, Tool, ToolCall, ToolUse
from maxgate.model_cards.card import ToolStyle
from maxgate.tool_calling.arguments import read_value, write_value

_HOW: Final[Mapping[ToolStyle, str]] = {
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
_ONLY_ONE: Final = "Call one function at a time."
_OTHERWISE: Final = "If no function is needed, answer the user in plain text."


def with_tools(
    messages: Sequence[Message], use: ToolUse | None, style: ToolStyle
) -> tuple[Message, ...]:
    """The dialogue with its tools, calls and results written out.

    Definitions follow the text of the first system message, which is made where there is none.
    """
    written = tuple([_written(m, style) if m.calls else m for m in messages])
    if use is None:
        return written
    definitions = _definitions(use, style)
    if written and written[0].role == "system":
        first, *rest = written
        return (first._replace(parts=(*first.parts, "\n\n", definitions)), *rest)
    return (Message("system", (definitions,)), *written)


def _definitions(use: ToolUse, style: ToolStyle) -> str:
    functions = json.dumps([_definition(tool) for tool in use.tools], ensure_ascii=False)
    lines = ["You can call these functions:", functions, _HOW[style]]
    if not use.parallel:
        lines.append(_ONLY_ONE)
    if not use.forced:
        lines.append(_OTHERWISE)
    return "\n".join(lines)


def _definition(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}


def _written(message: Message, style: ToolStyle) -> Message:
    text = "\n" if any(message.parts) else ""
    return Message(message.role, (*message.parts, text + _CALLS[style](message.calls)))


def _json_calls(calls: Sequence[ToolCall]) -> str:
    return "; ".join(
        write_value({"name": call.name, "parameters": read_value(call.arguments)}) for call in calls
    )


def _python_list(calls: Sequence[ToolCall]) -> str:
    arguments = [read_value(call.arguments) for call in calls]
    if not all(isinstance(a, dict) and all(map(str.isidentifier, a)) for a in arguments):
        return _json_calls(calls)
    written = [
        f"{call.name}({', '.join(f'{name}={value!r}' for name, value in given.items())})"
        for call, given in zip(calls, arguments, strict=True)
    ]
    return f"[{', '.join(written)}]"


def _function_tags(calls: Sequence[ToolCall]) -> str:
    return "\n".join(f"<function={c.name}>{c.arguments}</function>" for c in calls)


_CALLS: Final[Mapping[ToolStyle, Callable[[Sequence[ToolCall]], str]]] = {
    "json": _json_calls,
    "python_list": _python_list,
    "function_tag": _function_tags,
}


def call_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """The JSON schema of a call of one of the tools, for engines that keep to a grammar."""
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "parameters": tool.parameters},
            "required": ["name", "parameters"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def closest_name(text: str, names: Sequence[str]) -> str:
    """The name that the text goes along with the longest; the first of several."""

    def shared(name: str) -> int:
        pairs = zip(text, name, strict=False)
        return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(text), len(name)))

    return max(names, key=shared)
