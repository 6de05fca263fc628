"""Calls of tools that are `strict`: their arguments fit, or they are no calls."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from maxgate.errors import InvalidRequest
from maxgate.generation.collect import CalledTool
from maxgate.generation.request import Tool
from maxgate.generation.schema import followed
from maxgate.structured.bounds import check_bounds
from maxgate.structured.schema import Checker

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

        Raises DoesNotFit at the first that does not fit even so.
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
            raise DoesNotFit(call.name)
        return call._replace(arguments=arguments)


class DoesNotFit(Exception):  # an event, not an error
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
        schema = followed(schema["$ref"], root)
    return schema
