"""Whether a value is of a schema's shape, as far as choosing between several needs to know."""

from collections.abc import Mapping
from typing import Any

from maxgate.generation.schema import followed
from maxgate.prompts.tool_arguments import is_a


class SchemaFit:
    """Compares with parts of one schema, the `root` of references; `steps` bound the work.

    Types, allowed values and the names of fields count; lengths, bounds and patterns do not. What
    is not found out within the bounds fits.
    """

    def __init__(self, root: Mapping[str, Any], *, steps: int) -> None:
        self._root = root
        self._left = steps

    def step(self) -> bool:
        """Whether there is still one to take; takes it."""
        self._left -= 1
        return self._left >= 0

    def fits(self, value: Any, schema: Any, depth: int) -> bool:
        """Whether the value may be one that the schema describes, down to this depth."""
        if not isinstance(schema, Mapping):
            return schema is not False
        if not depth or not self.step():
            return True
        reference = schema.get("$ref")
        return (
            _is_of_type(value, schema)
            and _is_allowed(value, schema)
            and (
                not isinstance(reference, str)
                or self.fits(value, followed(reference, self._root), depth - 1)
            )
            and self._fits_options(value, schema, depth - 1)
            and self._fits_within(value, schema, depth - 1)
        )

    def _fits_options(self, value: Any, schema: Mapping[str, Any], depth: int) -> bool:
        either = [schema[word] for word in ("anyOf", "oneOf") if _is_filled(schema.get(word))]
        every = schema.get("allOf")
        return all(any(self.fits(value, o, depth) for o in options) for options in either) and (
            not isinstance(every, list) or all(self.fits(value, part, depth) for part in every)
        )

    def _fits_within(self, value: Any, schema: Mapping[str, Any], depth: int) -> bool:
        if isinstance(value, list):
            return all(self.fits(one, schema.get("items"), depth) for one in value)
        if not isinstance(value, dict):
            return True
        properties, required = schema.get("properties"), schema.get("required")
        named = properties if isinstance(properties, Mapping) else {}
        others = schema.get("additionalProperties")
        return (not isinstance(required, list) or all(name in value for name in required)) and all(
            self.fits(one, named.get(name, others), depth) for name, one in value.items()
        )

    def keeps_text(self, schema: Any, depth: int) -> bool:
        """Whether any text fits as it is, or none could be changed into what fits."""
        if not isinstance(schema, Mapping):
            return True
        if not depth or not self.step():
            return False
        reference, every = schema.get("$ref"), schema.get("allOf")
        parts = [*(every if isinstance(every, list) else ())]
        if isinstance(reference, str):
            parts.append(followed(reference, self._root))
        return (
            _may_be_text(schema)
            and all(self.keeps_text(part, depth - 1) for part in parts)
            and all(
                any(map(_is_free_text, options))
                or all(self.keeps_text(option, depth - 1) for option in options)
                for options in (schema.get(word) for word in ("anyOf", "oneOf"))
                if isinstance(options, list)
            )
        )


def _is_filled(options: Any) -> bool:
    return isinstance(options, list) and bool(options)


def _is_of_type(value: Any, schema: Mapping[str, Any]) -> bool:
    types = schema.get("type")
    if types is None:
        return "properties" not in schema or isinstance(value, dict)
    return any(is_a(value, kind) for kind in (types if isinstance(types, list) else [types]))


def _is_allowed(value: Any, schema: Mapping[str, Any]) -> bool:
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    return not isinstance(allowed, list) or any(
        value == member and isinstance(value, bool) == isinstance(member, bool)
        for member in allowed
    )


def _may_be_text(schema: Mapping[str, Any]) -> bool:
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(allowed, list) and not all(isinstance(member, str) for member in allowed):
        return False
    types = schema.get("type", "object" if "properties" in schema else "string")
    return types == "string" or (isinstance(types, list) and "string" in types)


def _is_free_text(schema: Any) -> bool:
    return (
        isinstance(schema, Mapping)
        and "string" in (types := schema.get("type") or ())
        and (
            isinstance(types, str | list)
            and schema.keys().isdisjoint({"enum", "const", "$ref", "allOf", "anyOf", "oneOf"})
        )
    )
