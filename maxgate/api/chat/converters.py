"""Convert OpenAI's chat request to a GenerationRequest."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from maxgate.api.chat.messages import ChatMessage, MessageToolCall
from maxgate.api.chat.schemas import (
    ChatCompletionRequest,
    NamedToolChoice,
    ResponseFormat,
    ToolDefinition,
)
from maxgate.api.chat.template_variables import convert_template_variables
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
_MAY_BE_EMPTY: Final = {"assistant", "tool"}
_BELONGS_TO: Final = {"tool_calls": "assistant", "refusal": "assistant", "tool_call_id": "tool"}


def convert_messages(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Convert the messages.

    Raises InvalidRequest for a message without content or with fields of another role, and for
    tool results that do not match the calls before them.
    """
    converted = tuple([_convert_message(message, i) for i, message in enumerate(messages)])
    if any(message.calls or message.role == "tool" for message in converted):
        _check_tool_results(messages)
    return converted


def _convert_message(message: ChatMessage, index: int) -> Message:
    content = message.content
    if not (content or content == "") or not _PLAIN_FIELDS.issuperset(message.model_fields_set):
        return _convert_special_message(message, index)
    if isinstance(content, str) and not message.name:
        return Message(_ROLES[message.role], (content,))
    return Message(_ROLES[message.role], _convert_parts(message, index))


def _convert_special_message(message: ChatMessage, index: int) -> Message:
    for field, role in _BELONGS_TO.items():
        if message.role != role and getattr(message, field):
            raise _misplaced_field(index, field, role)
    refusal = message.refusal
    if not (message.content or message.content == "" or message.tool_calls or refusal):
        _check_may_be_empty(message, index)
    calls = tuple([_convert_call(call) for call in message.tool_calls or ()])
    parts = _convert_parts(message, index) or (() if calls else (refusal or "",))
    return Message(_ROLES[message.role], parts, calls)


def _check_may_be_empty(message: ChatMessage, index: int) -> None:
    # Tools that return nothing, and models that stop after their reasoning, leave such messages.
    given = "content" in message.model_fields_set
    if not given or (message.content is None and message.role != "assistant"):
        raise _missing_field(index, "content")
    if message.role not in _MAY_BE_EMPTY:
        param = f"messages[{index}].content"
        raise InvalidRequest(
            f"Invalid value for '{param}': it must not be empty.", param=param, code="empty_array"
        )


def _convert_call(call: MessageToolCall) -> ToolCall:
    # Some clients send "" for a call without arguments, which is not valid JSON.
    return ToolCall(call.id, call.function.name, call.function.arguments or "{}")


def _convert_parts(message: ChatMessage, index: int) -> tuple[str, ...]:
    content = message.content
    if content is None:
        return ()
    if isinstance(content, str):
        parts: tuple[str, ...] = (content,)
    else:
        parts = tuple([p.text if p.type == "text" else p.refusal for p in content])
        refusals = [p for p in content if p.type == "refusal"]
        if refusals and message.role != "assistant":
            raise _misplaced_field(index, "content", "assistant")
    # OpenAI uses names to tell participants apart; prompt formats have no field for them.
    if message.name and message.role == "user":
        return (f"{message.name}: ", *parts)
    return parts


def _check_tool_results(messages: Sequence[ChatMessage]) -> None:
    # Some tools repeat an id, so a result may belong to any of the calls with its id.
    open_calls: set[str] = set()
    results_left: Counter[str] = Counter()
    for index, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id is None:
                raise _missing_field(index, "tool_call_id")
            if not results_left[message.tool_call_id]:
                raise InvalidRequest(
                    f"Invalid value for 'messages[{index}].tool_call_id': no call in 'tool_calls' "
                    "of the preceding assistant message has this id.",
                    param=f"messages[{index}].tool_call_id",
                    code="invalid_value",
                )
            open_calls.discard(message.tool_call_id)
            results_left[message.tool_call_id] -= 1
            continue
        if open_calls:
            raise _missing_results(index, open_calls)
        results_left = Counter([call.id for call in message.tool_calls or ()])
        open_calls = set(results_left)
    if open_calls:
        raise _missing_results(len(messages), open_calls)


def _missing_results(index: int, calls: set[str]) -> InvalidRequest:
    return InvalidRequest(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to "
        f"each 'tool_call_id'. These have no response: {', '.join(sorted(calls))[:200]}.",
        param=f"messages[{index}].role" if index else "messages",
        code="invalid_value",
    )


def _missing_field(index: int, field: str) -> InvalidRequest:
    param = f"messages[{index}].{field}"
    return InvalidRequest(
        f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def _misplaced_field(index: int, field: str, role: str) -> InvalidRequest:
    param = f"messages[{index}].{field}"
    return InvalidRequest(
        f"Invalid value for '{param}': only messages with the role '{role}' may have it.",
        param=param,
        code="invalid_value",
    )


_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def convert_request(
    body: ChatCompletionRequest, model: ServedModel, context: RequestContext
) -> GenerationRequest:
    """Convert a validated body.

    Raises InvalidRequest if fields contradict each other.
    """
    if body.top_logprobs is not None and not body.logprobs:
        raise contradiction("top_logprobs", "it is only allowed when 'logprobs' is true")
    messages = convert_messages(body.messages)
    limit = body.max_completion_tokens
    sampling = convert_sampling(
        body,
        model,
        max_tokens=body.max_tokens if limit is None else limit,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
    check_capabilities(sampling, model, logprobs_param="top_logprobs")
    tool_use = _convert_tools(body) if body.tools or body.tool_choice else None
    output = None if body.response_format is None else _convert_format(body.response_format)
    if output is not None or (tool_use is not None and tool_use.forced):
        _check_may_end(body)
    return GenerationRequest(
        model=model,
        messages=messages,
        sampling=sampling,
        stream=bool(body.stream),
        context=context,
        n=body.n or 1,
        tool_use=tool_use,
        output=output,
        template_variables=convert_template_variables(body.chat_template_kwargs, model)
        if body.chat_template_kwargs
        else None,
        running_usage=body.wants_running_usage,
    )


def _check_may_end(body: ChatCompletionRequest) -> None:
    for field in ("ignore_eos", "min_tokens"):
        if getattr(body, field):
            reason = "a response in JSON ends where the JSON ends; remove it or the required format"
            raise contradiction(field, reason)


def _convert_tools(body: ChatCompletionRequest) -> ToolUse | None:
    tools, choice = _convert_definitions(body), body.tool_choice
    if choice == "none" or (not tools and (choice is None or choice == "auto")):
        return None
    if not tools:
        raise contradiction("tool_choice", "it is only allowed with 'tools'")
    names = tuple([tool.name for tool in tools])
    parallel = body.parallel_tool_calls is not False
    match choice:
        case NamedToolChoice(function=function):
            if function.name not in names:
                raise contradiction("tool_choice", "'tools' has no function of this name")
            return ToolUse(tools, forced=(function.name,), parallel=False)
        case "required":
            return ToolUse(tools, forced=names, parallel=parallel)
        case _:
            return ToolUse(tools, parallel=parallel)


def _convert_definitions(body: ChatCompletionRequest) -> tuple[Tool, ...]:
    tools = tuple([_convert_definition(tool) for tool in body.tools or ()])
    names = [tool.name for tool in tools]
    if duplicate := next((n for i, n in enumerate(names) if n in names[:i]), None):
        raise contradiction("tools", f"the function '{duplicate}' is defined twice")
    return tools


def _convert_definition(tool: ToolDefinition) -> Tool:
    function = tool.function
    parameters = function.parameters or _NO_PARAMETERS
    return Tool(function.name, function.description or "", parameters, bool(function.strict))


def _convert_format(response_format: ResponseFormat) -> JsonOutput | None:
    if response_format.type == "text":
        return None
    if response_format.type == "json_object":
        return JsonOutput({})
    named = response_format.json_schema
    return JsonOutput(named.schema_ or {}, named.name, named.description or "")
