"""Calls of tools that are `strict`: their arguments fit, or they are no calls."""

import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from maxgate.errors import InvalidRequest
from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk, ToolCallDelta, Usage
from maxgate.generation.collect import CalledTool
from maxgate.generation.errors import OutputValidationFailed
from maxgate.generation.json_schema import resolve_ref
from maxgate.generation.request import GenerationRequest, Tool
from maxgate.structured_output.layer import TRIES, retry_request
from maxgate.structured_output.schema import Checker, check_bounds

_DEEPEST: Final = 64
_NAME: Final = re.compile(r', ("(?:[^"\\]|\\.)*"): ')


class StrictTools:
    """The tools of a request, with the schemas of those that are strict.

    Raises InvalidRequest where such a schema is none, or takes too long to be checked against.
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
        self._checkers = {
            tool.name: Checker(
                tool.parameters,
                of=f"the strict function '{tool.name}'",
                param=f"tools[{number}].function.parameters",
            )
            for number, tool in enumerate(tools)
            if tool.strict
        }
        self._schemas = {tool.name: tool.parameters for tool in tools}

    def fitted(self, calls: Sequence[CalledTool]) -> tuple[CalledTool, ...]:
        """The calls, of strict tools without the fields that their schemas leave no room for.

        Raises ValidationFailed at the first that does not fit even so.
        """
        return tuple([self._fitted(call) for call in calls])

    def ends_before(self, call: CalledTool, more: str) -> bool:
        """Whether a grammar would end the call here, where `more` of its arguments came instead.

        `more` begins with the comma before another argument.
        """
        checker, name = self._checkers.get(call.name), _NAME.match(more)
        if checker is None or name is None or not _is_closed(self._schemas[call.name]):
            return False
        declared = self._schemas[call.name]["properties"]
        return json.loads(name[1]) not in declared and checker.accepts(call.arguments + "}")

    def _fitted(self, call: CalledTool) -> CalledTool:
        checker = self._checkers.get(call.name)
        if checker is None or checker.accepts(call.arguments):
            return call
        schema = self._schemas[call.name]
        given = json.loads(call.arguments)
        arguments = json.dumps(_declared(given, schema, schema, _DEEPEST), ensure_ascii=False)
        if not checker.accepts(arguments):
            raise ValidationFailed(call.name)
        return call._replace(arguments=arguments)


class ValidationFailed(Exception):  # an event, not an error
    """A call of this tool has arguments that do not fit."""


def _declared(value: Any, schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    """The value without what a grammar would not have let the model write."""
    schema = _resolved(schema, root)
    if not isinstance(schema, Mapping) or not depth:
        return value
    if isinstance(value, list):
        return [_declared(one, schema.get("items"), root, depth - 1) for one in value]
    properties = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(properties, Mapping):
        return value
    return {
        name: _declared(one, properties.get(name), root, depth - 1)
        for name, one in value.items()
        if name in properties or not _is_closed(schema)
    }


def _is_closed(schema: Mapping[str, Any]) -> bool:
    return (
        schema.get("additionalProperties") is False
        and isinstance(schema.get("properties"), Mapping)
        and "patternProperties" not in schema
    )


def _resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    for _ in range(_DEEPEST):
        if not (isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str)):
            break
        schema = resolve_ref(schema["$ref"], root)
    return schema


class ToolCallFailed(OutputValidationFailed):
    """The model called a strict tool with arguments that do not fit, however often it was asked."""

    default_code = "tool_call_failed"

    def __init__(self, name: str, *, tries: int) -> None:
        super().__init__(
            f"The model called '{name}', which is strict, with arguments that do not fit its "
            f"parameters (tries: {tries}).",
            param="tools",
        )


class StrictCallsLayer:
    """Holds calls back until they are known to fit, where a tool of the request is strict.

    Text is passed on as it comes. Where a call does not fit and no text has been passed on, the
    model is asked again. A call that the limit of tokens cut is passed on as it is, as at OpenAI.

    Raises InvalidRequest for schemas of strict tools that are none, and ToolCallFailed where no try
    gave a call that fits.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """The answer, its calls in one piece each."""
        use = request.tool_use
        if use is None or not any(tool.strict for tool in use.tools):
            return self._inner.stream(request)
        only_one = not use.parallel or (bool(use.forced) and not request.model.capabilities.grammar)
        return self._tries(request, StrictTools(use.tools), only_one=only_one)

    async def _tries(
        self, request: GenerationRequest, tools: StrictTools, *, only_one: bool
    ) -> AsyncGenerator[Chunk]:
        spent = Usage(0, 0)
        for number in range(TRIES):
            answer = _HeldAnswer(tools, spent, hold_text=not request.stream, only_one=only_one)
            async with aclosing(self._inner.stream(retry_request(request, number))) as chunks:
                async for chunk in chunks:
                    for ready in answer.ready(chunk):
                        yield ready
                    if answer.ended_early:
                        return
            if not answer.failed:
                return
            spent = answer.spent
            if answer.shown:
                break  # what was shown cannot be taken back
        raise ToolCallFailed(answer.failed, tries=number + 1)


class _HeldAnswer:
    """One try; `spent` are the tokens of it and of those before.

    `failed` names the tool that was called with arguments that do not fit, `shown` says that some
    of the answer was passed on. With `only_one` call an answer has `ended_early` where a grammar
    would have ended it: small models go on and on.
    """

    def __init__(
        self, tools: StrictTools, spent: Usage, *, hold_text: bool, only_one: bool
    ) -> None:
        self.spent = spent
        self.failed = ""
        self.shown = False
        self.ended_early = False
        self._before = spent
        self._tools = tools
        self._hold = hold_text
        self._only_one = only_one
        self._held: list[Chunk] = []
        self._calls: list[ToolCallDelta] = []

    def ready(self, chunk: Chunk) -> Sequence[Chunk]:
        """What can be passed on now."""
        if chunk.usage is not None:
            self.spent = self._before.with_attempt(chunk.usage)
            chunk = replace(chunk, usage=self.spent)
        self._add_calls(chunk.tool_calls)
        chunk = replace(chunk, tool_calls=())
        if self.ended_early:
            chunk = replace(chunk, finish_reason="tool_calls")
        if chunk.finish_reason is not None:
            return self._all(chunk)
        if self._hold or self._calls:
            self._held.append(chunk)
            return ()
        self.shown = self.shown or bool(chunk.text)
        return (chunk,)

    def _add_calls(self, deltas: Sequence[ToolCallDelta]) -> None:
        for delta in deltas:
            if self._only_one and delta.arguments.startswith(", "):
                [call] = _joined(self._calls)
                if self._tools.ends_before(call, delta.arguments):
                    self._calls.append(ToolCallDelta(0, None, "}"))
                    self.ended_early = True
                    return
            self._calls.append(delta)

    def _all(self, last: Chunk) -> Sequence[Chunk]:
        calls = self._calls
        self._hold, self._calls = False, []  # what follows only counts tokens
        if last.finish_reason == "tool_calls":
            try:
                calls = _as_deltas(self._tools.fitted(_joined(calls)))
            except ValidationFailed as tool:
                self.failed = str(tool)
                return ()
        return [*self._held, replace(last, tool_calls=tuple(calls))]


def _joined(deltas: Sequence[ToolCallDelta]) -> list[CalledTool]:
    calls: list[CalledTool] = []
    for delta in deltas:
        if delta.name is not None:
            calls.append(CalledTool(delta.name, delta.arguments))
        else:
            call = calls[delta.call]
            calls[delta.call] = call._replace(arguments=call.arguments + delta.arguments)
    return calls


def _as_deltas(calls: Sequence[CalledTool]) -> list[ToolCallDelta]:
    return [ToolCallDelta(number, *call) for number, call in enumerate(calls)]
