"""The arguments that a tool's schema declares, which tell where a forced call must end.

A model that is forced to call a function often goes on after the last argument that makes sense:
it invents arguments, or repeats them, up to the token limit.
"""

from collections.abc import Mapping
from typing import Any, Final

NO_ARGUMENTS: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {},
    "additionalProperties": False,
}
# Keywords that may declare or allow arguments beyond `properties`.
_OPEN_KEYWORDS: Final = frozenset(
    {
        "$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "patternProperties",
        "propertyNames", "dependentSchemas", "unevaluatedProperties", "minProperties",
    }
)  # fmt: skip


class DeclaredArguments:
    """The arguments declared by `parameters`, a tool's JSON schema.

    `closed` is False if the schema allows arguments without declaring them: it names
    `additionalProperties`, or combines schemas.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        properties, required = parameters.get("properties"), parameters.get("required")
        self._names = frozenset(properties) if isinstance(properties, Mapping) else frozenset()
        names = required if isinstance(required, list) else []
        self._required = frozenset([name for name in names if isinstance(name, str)])
        self.closed = (
            parameters.get("additionalProperties", False) is False
            and parameters.get("type", "object") == "object"
            and isinstance(properties, Mapping | None)
            and self._required <= self._names
            and _OPEN_KEYWORDS.isdisjoint(parameters)
        )

    @property
    def none(self) -> bool:
        """Whether the only possible arguments are `{}`."""
        return self.closed and not self._names

    def all_given(self, given: set[str]) -> bool:
        """Whether no further argument can follow those that were `given`."""
        return self.closed and self._names <= given

    def must_end_before(self, name: str, given: set[str]) -> bool:
        """Whether the call is complete, and `name` is undeclared or given a second time."""
        return (
            self.closed and self._required <= given and (name in given or name not in self._names)
        )


def close_schema(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema for a grammar: it allows only the arguments that are declared."""
    declared = DeclaredArguments(parameters)
    if declared.none:
        return NO_ARGUMENTS
    return {**parameters, "additionalProperties": False} if declared.closed else parameters
