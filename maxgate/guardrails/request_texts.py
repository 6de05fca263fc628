"""The texts of a request that reach the model."""

from collections.abc import Callable
from typing import Any

import orjson

from maxgate.generation.request import GenerationRequest, Message, Tool, ToolCall

Change = Callable[[str, str], str]
"""Return what a text becomes; the second argument is the path of its field."""


CheckName = Callable[[str, str], object]
"""Raise if a name is refused; names are never changed, since calls refer to them."""


def check_names(request: GenerationRequest, check: CheckName) -> None:
    """Check the names of functions, of calls and of the response format."""
    for i, message in enumerate(request.messages):
        for j, call in enumerate(message.calls):
            check(call.name, f"messages[{i}].tool_calls[{j}].function.name")
    if request.tool_use is not None:
        names = {tool.name for tool in request.tool_use.tools}
        for i, tool in enumerate(request.tool_use.tools):
            check(tool.name, f"tools[{i}].function.name")
        for name in request.tool_use.forced:
            if name not in names:
                check(name, "tool_choice.function.name")
    if request.output is not None and request.output.name:
        check(request.output.name, "response_format.json_schema.name")


def change_texts(request: GenerationRequest, change: Change) -> GenerationRequest:
    """Return the request with all texts changed: messages, tools, schemas and prompts.

    Parts of a message are one text, since the model sees them joined.
    """
    messages = tuple(
        [
            _change_message(message, f"messages[{i}]", change)
            for i, message in enumerate(request.messages)
        ]
    )
    fields: dict[str, Any] = {"messages": messages}
    if isinstance(request.raw_prompt, str):
        fields["raw_prompt"] = change(request.raw_prompt, "prompt")
    if request.tool_use is not None:
        tools = [
            _change_tool(t, f"tools[{i}]", change) for i, t in enumerate(request.tool_use.tools)
        ]
        fields["tool_use"] = request.tool_use._replace(tools=tuple(tools))
    if request.output is not None:
        param = "response_format.json_schema"
        fields["output"] = request.output._replace(
            schema=change_json(request.output.schema, f"{param}.schema", change),
            description=change(request.output.description, f"{param}.description"),
        )
    if request.template_variables:
        fields["template_variables"] = change_json(
            request.template_variables, "chat_template_kwargs", change
        )
    return request._replace(**fields)


def _change_message(message: Message, param: str, change: Change) -> Message:
    text = "".join(message.parts)
    changed = change(text, f"{param}.content") if text else text
    calls = tuple(
        [_change_call(c, f"{param}.tool_calls[{i}]", change) for i, c in enumerate(message.calls)]
    )
    # Unchanged parts stay apart, so that the prompt does not change.
    parts = message.parts if changed == text else (changed,)
    return message._replace(parts=parts, calls=calls)


def _change_call(call: ToolCall, param: str, change: Change) -> ToolCall:
    return call._replace(
        arguments=change_json_text(call.arguments, f"{param}.function.arguments", change)
    )


def _change_tool(tool: Tool, param: str, change: Change) -> Tool:
    return tool._replace(
        description=change(tool.description, f"{param}.function.description"),
        parameters=change_json(tool.parameters, f"{param}.function.parameters", change),
    )


def change_json_text(text: str, param: str, change: Change) -> str:
    """Return JSON with its strings changed, or the text itself if none is.

    Escapes hide nothing, because the decoded strings are changed. Text that is not JSON is changed
    as a whole.
    """
    try:
        value = orjson.loads(text)
        changed = change_json(value, param, change)
    except (orjson.JSONDecodeError, RecursionError):
        return change(text, param)
    return text if changed == value else orjson.dumps(changed).decode()


def change_json(value: Any, param: str, change: Change) -> Any:
    """Return a JSON value with its strings changed, keys included.

    A number that would be changed as a text becomes a string.
    """
    if isinstance(value, str):
        return change(value, param) if value else value
    if isinstance(value, dict):
        return {
            change(key, param): change_json(member, param, change) for key, member in value.items()
        }
    if isinstance(value, list | tuple):
        return [change_json(item, param, change) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    digits = str(value)
    changed = change(digits, param)
    return value if changed == digits else changed
