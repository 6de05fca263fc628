"""Strict tools: their calls match their schemas, or the response is an error."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from maxgate.errors import InvalidRequest
from maxgate.generation.chunk import Chunk, ToolCallDelta, Usage
from maxgate.generation.collect import CalledTool
from maxgate.generation.errors import OutputValidationFailed
from maxgate.generation.json_schema import JsonValidator, check_bounds, resolve_ref
from maxgate.generation.request import GenerationRequest, Tool

_MAX_DEPTH: Final = 64
_NEXT_NAME: Final = re.compile(r', ("(?:[^"\\]|\\.)*"): ')


class ToolCallFailed(OutputValidationFailed):
    """No attempt produced a call of a strict tool that matches the tool's schema."""

    default_code = "tool_call_failed"

    def __init__(self, name: str, *, attempts: int) -> None:
        super().__init__(
            f"The model called the strict function '{name}' with arguments that do not match its "
            f"parameters (attempts: {attempts}).",
            param="tools",
        )


class ValidationFailed(Exception):  # an event, not an error
    """A call of this tool has arguments that do not match the schema."""


class StrictTools:
    """The tools of a request, with validators for those that are strict.

    Raises InvalidRequest if a strict tool's schema is invalid, or validating could take too long.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        try:
            check_bounds(*[tool.parameters for tool in tools if tool.strict])
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(
                f"Invalid schemas of strict tools: {str(error)[:200]}",
                param="tools",
                code="invalid_value",
            ) from error
        self._validators = {
            tool.name: JsonValidator(
                tool.parameters,
                subject=f"the strict function '{tool.name}'",
                param=f"tools[{number}].function.parameters",
            )
            for number, tool in enumerate(tools)
            if tool.strict
        }
        self._schemas = {tool.name: tool.parameters for tool in tools}

    def prune(self, calls: Sequence[CalledTool]) -> tuple[CalledTool, ...]:
        """Remove arguments of strict tools that their schemas do not allow.

        Raises ValidationFailed at the first call that does not match even so.
        """
        return tuple([self._prune_call(call) for call in calls])

    def must_end(self, call: CalledTool, following: str) -> bool:
        """Whether a grammar would have ended the call before `following`.

        `following` starts with the comma before another argument of the call.
        """
        validator, name = self._validators.get(call.name), _NEXT_NAME.match(following)
        if validator is None or name is None or not _is_closed(self._schemas[call.name]):
            return False
        declared = self._schemas[call.name]["properties"]
        return json.loads(name[1]) not in declared and validator.matches(call.arguments + "}")

    def _prune_call(self, call: CalledTool) -> CalledTool:
        validator = self._validators.get(call.name)
        if validator is None or validator.matches(call.arguments):
            return call
        schema = self._schemas[call.name]
        try:
            value = json.loads(call.arguments)
        except RecursionError:
            raise ValidationFailed(call.name) from None
        pruned = _prune_value(value, schema, schema, _MAX_DEPTH)
        arguments = json.dumps(pruned, ensure_ascii=False)
        if not validator.matches(arguments):
            raise ValidationFailed(call.name)
        return call._replace(arguments=arguments)


def _prune_value(value: Any, schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    """Remove the properties that a grammar would not have let the model write."""
    schema = _follow_refs(schema, root)
    if not isinstance(schema, Mapping) or not depth:
        return value
    if isinstance(value, list):
        return [_prune_value(item, schema.get("items"), root, depth - 1) for item in value]
    properties = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(properties, Mapping):
        return value
    return {
        name: _prune_value(member, properties.get(name), root, depth - 1)
        for name, member in value.items()
        if name in properties or not _is_closed(schema)
    }


def _is_closed(schema: Mapping[str, Any]) -> bool:
    return (
        schema.get("additionalProperties") is False
        and isinstance(schema.get("properties"), Mapping)
        and "patternProperties" not in schema
    )


def _follow_refs(schema: Any, root: Mapping[str, Any]) -> Any:
    for _ in range(_MAX_DEPTH):
        if not (isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str)):
            break
        schema = resolve_ref(schema["$ref"], root)
    return schema


class StrictResponse:
    """One attempt at a response; holds back its tool calls until they are complete and valid.

    `usage` includes the attempts before. `failed_tool` names the tool whose call did not match,
    `text_sent` says that text was already passed on. If only one call is wanted and an argument
    follows that a grammar would not have allowed, the response has `ended_early`: small models do
    not stop by themselves.
    """

    def __init__(
        self, request: GenerationRequest, tools: StrictTools, *, usage_before: Usage
    ) -> None:
        use = request.tool_use
        self.usage = usage_before
        self.failed_tool = ""
        self.text_sent = False
        self.ended_early = False
        self._usage_before = usage_before
        self._tools = tools
        self._hold_text = not request.stream
        self._only_one = bool(request.prefix) or (use is not None and not use.parallel)
        self._held: list[Chunk] = []
        self._deltas: list[ToolCallDelta] = []

    def feed(self, chunk: Chunk) -> Sequence[Chunk]:
        """Take the next chunk; return the chunks that can be passed on now."""
        if chunk.usage is not None:
            self.usage = self._usage_before.with_attempt(chunk.usage)
            chunk = replace(chunk, usage=self.usage)
        self._add_deltas(chunk.tool_calls)
        chunk = replace(chunk, tool_calls=())
        if self.ended_early:
            chunk = replace(chunk, finish_reason="tool_calls")
        if chunk.finish_reason is not None:
            return self._finish(chunk)
        if self._hold_text or self._deltas:
            self._held.append(chunk)
            return ()
        self.text_sent = self.text_sent or bool(chunk.text)
        return (chunk,)

    def _add_deltas(self, deltas: Sequence[ToolCallDelta]) -> None:
        for delta in deltas:
            if self._only_one and delta.arguments.startswith(", "):
                [call] = _join_deltas(self._deltas)
                if self._tools.must_end(call, delta.arguments):
                    self._deltas.append(ToolCallDelta(0, None, "}"))
                    self.ended_early = True
                    return
            self._deltas.append(delta)

    def _finish(self, last: Chunk) -> Sequence[Chunk]:
        deltas = self._deltas
        self._hold_text, self._deltas = False, []  # chunks after this one only carry usage
        if last.finish_reason == "tool_calls":
            try:
                calls = self._tools.prune(_join_deltas(deltas))
            except ValidationFailed as tool:
                self.failed_tool = str(tool)
                return ()
            deltas = [ToolCallDelta(number, *call) for number, call in enumerate(calls)]
        return [*self._held, replace(last, tool_calls=tuple(deltas))]


def _join_deltas(deltas: Sequence[ToolCallDelta]) -> list[CalledTool]:
    calls: list[CalledTool] = []
    for delta in deltas:
        if delta.name is not None:
            calls.append(CalledTool(delta.name, delta.arguments))
        else:
            call = calls[delta.call]
            calls[delta.call] = call._replace(arguments=call.arguments + delta.arguments)
    return calls
