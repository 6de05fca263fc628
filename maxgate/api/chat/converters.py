"""OpenAI's request as ours."""

from collections.abc import Sequence
from typing import Any, Final

from maxgate.api.chat.schemas import (
    ChatCompletionRequest,
    ChatMessage,
    MessageToolCall,
    NamedToolChoice,
    ToolDefinition,
)
from maxgate.api.sampling import check_capabilities, contradiction, convert_sampling
from maxgate.errors import InvalidRequest
from maxgate.generation.catalog import ServedModel
from maxgate.generation.context import RequestContext
from maxgate.generation.request import (
    GenerationRequest,
    JsonOutput,
    Message,
    Role,
    Tool,
    ToolCall,
    ToolUse,
)

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}

_PLAIN_FIELDS: Final = {"role", "content", "name"}
_BELONGS_TO: Final = {"tool_calls": "assistant", "refusal": "assistant", "tool_call_id": "tool"}


def convert_messages(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """The turns of the dialogue.

    Raises InvalidRequest where a turn lacks its content, carries what belongs to another role, or
    where calls and results of tools do not match.
    """
    turns = tuple([_turn(message, number) for number, message in enumerate(messages)])
    if any(turn.calls or turn.role == "tool" for turn in turns):
        _check_results(messages)
    return turns


def _turn(message: ChatMessage, number: int) -> Message:
    content = message.content
    if content is None or not _PLAIN_FIELDS.issuperset(message.model_fields_set):
        return _special_turn(message, number)
    if isinstance(content, str) and message.name is None:
        return Message(_ROLES[message.role], (content,))
    return Message(_ROLES[message.role], _parts(message, number))


def _special_turn(message: ChatMessage, number: int) -> Message:
    for field, role in _BELONGS_TO.items():
        if message.role != role and getattr(message, field) is not None:
            raise _misplaced(number, field, role)
    refusal = message.refusal
    if message.content is None and not (message.tool_calls or refusal):
        raise _missing(number, "content")
    parts = _parts(message, number) or ((refusal,) if refusal else ())
    calls = tuple([_call(call) for call in message.tool_calls or ()])
    return Message(_ROLES[message.role], parts, calls)


def _call(call: MessageToolCall) -> ToolCall:
    # Some clients write a call without arguments as "", which is no JSON.
    return ToolCall(call.id, call.function.name, call.function.arguments or "{}")


def _parts(message: ChatMessage, number: int) -> tuple[str, ...]:
    content = message.content
    if content is None:
        return ()
    if isinstance(content, str):
        parts: tuple[str, ...] = (content,)
    else:
        parts = tuple([p.text if p.type == "text" else p.refusal for p in content])
        refusals = [p for p in content if p.type == "refusal"]
        if refusals and message.role != "assistant":
            raise _misplaced(number, "content", "assistant")
    # The model has no other place for it; OpenAI uses it to tell participants apart.
    if message.name is not None and message.role == "user":
        return (f"{message.name}: ", *parts)
    return parts


def _check_results(messages: Sequence[ChatMessage]) -> None:
    open_calls: set[str] = set()
    for number, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id is None:
                raise _missing(number, "tool_call_id")
            if message.tool_call_id not in open_calls:
                raise InvalidRequest(
                    f"Invalid value for 'messages[{number}].tool_call_id': it answers no call in "
                    "'tool_calls' of the assistant's message before it.",
                    param=f"messages[{number}].tool_call_id",
                    code="invalid_value",
                )
            open_calls.discard(message.tool_call_id)
            continue
        if open_calls:
            raise _unanswered(number, open_calls)
        open_calls = {call.id for call in message.tool_calls or ()}
    if open_calls:
        raise _unanswered(len(messages), open_calls)


def _unanswered(number: int, calls: set[str]) -> InvalidRequest:
    return InvalidRequest(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to "
        f"each 'tool_call_id'. These have no response: {', '.join(sorted(calls))[:200]}.",
        param=f"messages[{number}].role" if number else "messages",
        code="invalid_value",
    )


def _missing(number: int, field: str) -> InvalidRequest:
    param = f"messages[{number}].{field}"
    return InvalidRequest(
        f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def _misplaced(number: int, field: str, role: str) -> InvalidRequest:
    param = f"messages[{number}].{field}"
    return InvalidRequest(
        f"Invalid value for '{param}': it belongs to messages with the role '{role}'.",
        param=param,
        code="invalid_value",
    )


_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def generation_request(
    body: ChatCompletionRequest, model: ServedModel, context: RequestContext
) -> GenerationRequest:
    """What is to be generated.

    Raises InvalidRequest where fields contradict each other.
    """
    if body.top_logprobs is not None and not body.logprobs:
        raise contradiction("top_logprobs", "it is only allowed when 'logprobs' is true")
    limit = body.max_completion_tokens
    sampling = convert_sampling(
        body,
        model,
        max_tokens=body.max_tokens if limit is None else limit,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
    check_capabilities(sampling, model, logprobs_param="top_logprobs")
    return GenerationRequest(
        model=model,
        messages=convert_messages(body.messages),
        sampling=sampling,
        stream=bool(body.stream),
        context=context,
        n=body.n or 1,
        tool_use=_tool_use(body) if body.tools or body.tool_choice else None,
        output=None if body.response_format is None else _output(body),
    )


def _tool_use(body: ChatCompletionRequest) -> ToolUse | None:
    tools, choice = _tools(body), body.tool_choice
    if choice == "none" or (not tools and (choice is None or choice == "auto")):
        return None
    if not tools:
        raise contradiction("tool_choice", "it is only allowed when 'tools' are given")
    names = tuple([tool.name for tool in tools])
    parallel = body.parallel_tool_calls is not False
    match choice:
        case NamedToolChoice(function=function):
            if function.name not in names:
                raise contradiction("tool_choice", "'tools' have no function of this name")
            return ToolUse(tools, forced=(function.name,), parallel=False)
        case "required":
            return ToolUse(tools, forced=names, parallel=parallel)
        case _:
            return ToolUse(tools, parallel=parallel)


def _tools(body: ChatCompletionRequest) -> tuple[Tool, ...]:
    tools = tuple([_tool(tool) for tool in body.tools or ()])
    names = [tool.name for tool in tools]
    if twice := next((n for number, n in enumerate(names) if n in names[:number]), None):
        raise contradiction("tools", f"the function '{twice}' is there twice")
    return tools


def _tool(tool: ToolDefinition) -> Tool:
    function = tool.function
    parameters = function.parameters or _NO_PARAMETERS
    return Tool(function.name, function.description or "", parameters, bool(function.strict))


def _output(body: ChatCompletionRequest) -> JsonOutput | None:
    match body.response_format:
        case None:
            return None
        case chosen if chosen.type == "text":
            return None
        case chosen if chosen.type == "json_object":
            return JsonOutput({})
        case chosen:
            named = chosen.json_schema
            return JsonOutput(named.schema_ or {}, named.name)
