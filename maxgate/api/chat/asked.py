"""OpenAI's request as ours."""

from typing import Any

from maxgate.api.abilities import check_abilities
from maxgate.api.chat.dialogue import dialogue
from maxgate.api.chat.wire import ChatCompletionRequest, NamedToolChoice, ToolDefinition
from maxgate.api.sampling import contradiction, sampling_of
from maxgate.generation.catalog import ServedModel
from maxgate.generation.request import GenerationRequest, JsonOutput, Tool, ToolUse
from maxgate.generation.trace import RequestTrace

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def generation_request(
    body: ChatCompletionRequest, model: ServedModel, trace: RequestTrace
) -> GenerationRequest:
    """What is to be generated.

    Raises InvalidRequest where fields contradict each other.
    """
    if body.top_logprobs is not None and not body.logprobs:
        raise contradiction("top_logprobs", "it is only allowed when 'logprobs' is true")
    limit = body.max_completion_tokens
    sampling = sampling_of(
        body,
        model,
        max_tokens=body.max_tokens if limit is None else limit,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
    check_abilities(sampling, model, logprobs_param="top_logprobs")
    return GenerationRequest(
        model=model,
        messages=dialogue(body.messages),
        sampling=sampling,
        stream=bool(body.stream),
        trace=trace,
        choices=body.n or 1,
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
