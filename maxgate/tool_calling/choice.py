"""Forced tool choice: make sure that the response is a call of one of the tools required.

An engine with a grammar gets the schema of the calls. Without one, the gateway writes the start of
the call into the assistant's turn, as a prefix that the model continues; if several tools qualify,
the model picks the name first, in a short request of its own.
"""

from collections.abc import Sequence
from typing import Any, Final

from maxgate.errors import InvalidRequest
from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Usage
from maxgate.generation.collect import collect
from maxgate.generation.json_schema import certain_prefix, rebase_refs
from maxgate.generation.request import GenerationRequest, Tool
from maxgate.tool_calling.declared import DeclaredArguments, close_schema
from maxgate.tool_calling.prompt import write_tools

_MAX_NAME_TOKENS: Final = 24
_NAME_PREFIX: Final = '{"name": "'


async def force_call(
    backend: Backend, request: GenerationRequest, *, can_prefix: bool
) -> tuple[GenerationRequest, Usage]:
    """Return the request with the call enforced, and the usage of choosing the tool.

    Raises InvalidRequest if the engine has no grammar and `can_prefix` is False.
    """
    use = request.tool_use
    tools = [tool for tool in use.tools if tool.name in use.forced] if use is not None else []
    if request.model.capabilities.grammar:
        return request._replace(grammar=write_call_schema(tools)), Usage(0, 0)
    if not can_prefix:
        raise InvalidRequest(
            "Unsupported parameter: 'tool_choice': the engine formats this model's prompts and "
            "runs without a grammar, so a tool call cannot be enforced. Its operator can start "
            "MAX with --enable-structured-output, or add a model card.",
            param="tool_choice",
            code="unsupported_parameter",
        )
    usage = Usage(0, 0)
    if len(tools) > 1:
        tools, usage = await _choose_tool(backend, request, tools)
    [tool] = tools
    if DeclaredArguments(tool.parameters).none:
        arguments = "{}}"  # the whole call: the response ends with the engine's first token
    else:
        arguments = certain_prefix({"type": "object", **tool.parameters})
    prefix = f'{_NAME_PREFIX}{tool.name}", "parameters": {arguments}'
    return request._replace(prefix=prefix), usage


async def _choose_tool(
    backend: Backend, request: GenerationRequest, tools: Sequence[Tool]
) -> tuple[list[Tool], Usage]:
    """Let the model continue the start of a call, and take the tool with the closest name."""
    sampling = request.sampling._replace(
        temperature=0,
        max_tokens=_MAX_NAME_TOKENS,
        logprobs=None,
        stop=(),
        repetition_penalty=None,
        stop_token_ids=(),
    )
    # With tools and output removed, the request passes the layers in between unchanged.
    question = request._replace(
        messages=write_tools(request.messages, request.tool_use, request.model.tool_style),
        tool_use=None,
        output=None,
        prefix=_NAME_PREFIX,
        running_usage=False,
        sampling=sampling,
        stream=False,
    )
    completion = await collect(backend, question)
    written = completion.choices[0].text.removeprefix(_NAME_PREFIX)
    name = find_closest_name(written, [tool.name for tool in tools])
    return [tool for tool in tools if tool.name == name], completion.usage


def find_closest_name(text: str, names: Sequence[str]) -> str:
    """Return the name that shares the longest prefix with the text; the first of several."""

    def count_shared(name: str) -> int:
        pairs = zip(text, name, strict=False)
        return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(text), len(name)))

    return max(names, key=count_shared)


def write_call_schema(tools: Sequence[Tool]) -> dict[str, Any]:
    """Write the JSON schema of a call of one of the tools, for the engine's grammar.

    Parameters with references stand under `$defs`, with the references adapted to that place.
    """
    definitions: dict[str, Any] = {}
    calls = []
    for tool in tools:
        parameters, pointer = close_schema(tool.parameters), f"#/$defs/{tool.name}"
        rebased = rebase_refs(parameters, pointer)
        if rebased != parameters:
            definitions[tool.name] = rebased
            parameters = {"$ref": pointer}
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool.name}, "parameters": parameters},
                "required": ["name", "parameters"],
                "additionalProperties": False,
            }
        )
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**schema, "$defs": definitions} if definitions else schema
