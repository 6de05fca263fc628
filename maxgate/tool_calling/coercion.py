"""Convert arguments to the types of the tool's schema, if nothing is lost.

`"5"` becomes 5 for an integer, 5 becomes `"5"` for a string, in objects and arrays too. Values that
cannot be converted stay as the model wrote them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from maxgate.generation.json_schema import resolve_ref
from maxgate.tool_calling.values import has_json_type, read_value, write_value

# Schemas come from clients: references may be circular, and may double the work with each step.
_MAX_STEPS: Final = 20_000
_MAX_DEPTH: Final = 64


class Coercion:
    """Converts the arguments of one tool, whose `parameters` are a JSON schema."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        properties = parameters.get("properties")
        self._properties = properties if isinstance(properties, Mapping) else {}
        self._parameters = parameters

    def coerce(self, name: str, value: Any) -> Any:
        """Return the value of the argument `name`, converted if its schema requires it."""
        return _Coercer(self._parameters).coerce(value, self._properties.get(name), _MAX_DEPTH)

    def keeps_strings(self, name: str) -> bool:
        """Whether any string passes unchanged, so it can be streamed before it is complete."""
        schema = self._properties.get(name)
        if schema is None or (isinstance(schema, Mapping) and schema.get("type") == "string"):
            return schema is None or "enum" not in schema
        return _SchemaMatcher(self._parameters).keeps_strings(schema, _MAX_DEPTH)


class _Coercer:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._matcher = _SchemaMatcher(root)

    def coerce(self, value: Any, schema: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping) or not depth or not self._matcher.take_step():
            return value
        if isinstance(reference := schema.get("$ref"), str):
            value = self.coerce(value, resolve_ref(reference, self._root), depth - 1)
        for part in _as_list(schema.get("allOf")):
            value = self.coerce(value, part, depth - 1)
        for options in (_as_list(schema.get("anyOf")), _as_list(schema.get("oneOf"))):
            value = self._coerce_to_option(value, options, depth - 1)
        value = _coerce_type(_coerce_to_allowed(value, schema), schema)
        if isinstance(value, dict):
            return self._coerce_object(value, schema, depth - 1)
        return self._coerce_array(value, schema, depth - 1) if isinstance(value, list) else value

    def _coerce_to_option(self, value: Any, options: Sequence[Any], depth: int) -> Any:
        if any(self._matcher.matches(value, option, depth) for option in options):
            return value
        for option in options:
            coerced = self.coerce(value, option, depth)
            if self._matcher.matches(coerced, option, depth):
                return coerced
        return value

    def _coerce_object(self, value: dict[str, Any], schema: Mapping[str, Any], depth: int) -> Any:
        properties, others = schema.get("properties"), schema.get("additionalProperties")
        named = properties if isinstance(properties, Mapping) else {}
        return {
            key: self.coerce(item, named.get(key, others), depth) for key, item in value.items()
        }

    def _coerce_array(self, value: list[Any], schema: Mapping[str, Any], depth: int) -> list[Any]:
        first, others = _as_list(schema.get("prefixItems")), schema.get("items")
        return [
            self.coerce(item, first[index] if index < len(first) else others, depth)
            for index, item in enumerate(value)
        ]


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _coerce_to_allowed(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return the value of `enum` or `const` that this one equals, or is another notation of."""
    allowed = _list_allowed(schema) or ()
    for notation in _iterate_notations(value) if allowed else ():
        for member in allowed:
            if _is_same(notation, member):
                return member
    return value


def _list_allowed(schema: Mapping[str, Any]) -> Sequence[Any] | None:
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    return allowed if isinstance(allowed, list) else None


def _is_same(value: Any, member: Any) -> bool:
    # In Python, True == 1.
    return bool(value == member) and isinstance(value, bool) == isinstance(member, bool)


def _iterate_notations(value: Any) -> Iterable[Any]:
    yield value
    if isinstance(value, str):
        yield read_value(value.strip())
    elif isinstance(value, bool | int | float):
        yield write_value(value)


def _coerce_type(value: Any, schema: Mapping[str, Any]) -> Any:
    """Convert the value to the first of the schema's types that can hold it."""
    types = schema.get("type", "object" if "properties" in schema else None)
    kinds = [kind for kind in (types if isinstance(types, list) else [types]) if kind is not None]
    if not kinds or any(has_json_type(value, kind) for kind in kinds):
        return value
    for kind in kinds:
        converted = _convert(value, kind)
        if has_json_type(converted, kind):
            return converted
    return value


def _convert(value: Any, kind: str) -> Any:
    if isinstance(value, str):
        value = read_value(value.strip())
    if kind == "string" and isinstance(value, bool | int | float):
        return write_value(value)
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


class _SchemaMatcher:
    """Compares values with parts of one schema, `root`, in a bounded number of steps.

    Types, allowed values and property names count; lengths, ranges and patterns do not. Once the
    steps are used up, everything matches.
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._steps_left = _MAX_STEPS

    def take_step(self) -> bool:
        """Take one step; False if none is left."""
        self._steps_left -= 1
        return self._steps_left >= 0

    def matches(self, value: Any, schema: Any, depth: int) -> bool:
        """Whether the value matches the schema down to `depth` levels."""
        if not isinstance(schema, Mapping):
            return schema is not False
        if not depth or not self.take_step():
            return True
        reference, allowed = schema.get("$ref"), _list_allowed(schema)
        return (
            _matches_type(value, schema)
            and (allowed is None or any(_is_same(value, member) for member in allowed))
            and (
                not isinstance(reference, str)
                or self.matches(value, resolve_ref(reference, self._root), depth - 1)
            )
            and self._matches_options(value, schema, depth - 1)
            and self._matches_members(value, schema, depth - 1)
        )

    def _matches_options(self, value: Any, schema: Mapping[str, Any], depth: int) -> bool:
        unions = [_as_list(schema.get(keyword)) for keyword in ("anyOf", "oneOf")]
        return all(
            any(self.matches(value, option, depth) for option in options)
            for options in unions
            if options
        ) and all(self.matches(value, part, depth) for part in _as_list(schema.get("allOf")))

    def _matches_members(self, value: Any, schema: Mapping[str, Any], depth: int) -> bool:
        if isinstance(value, list):
            return all(self.matches(item, schema.get("items"), depth) for item in value)
        if not isinstance(value, dict):
            return True
        properties = schema.get("properties")
        named = properties if isinstance(properties, Mapping) else {}
        others = schema.get("additionalProperties")
        return all(name in value for name in _as_list(schema.get("required"))) and all(
            self.matches(member, named.get(name, others), depth) for name, member in value.items()
        )

    def keeps_strings(self, schema: Any, depth: int) -> bool:
        """Whether any string matches as it is, or none could be converted to a match."""
        if not isinstance(schema, Mapping):
            return True
        if not depth or not self.take_step():
            return False
        parts = [*_as_list(schema.get("allOf"))]
        if isinstance(reference := schema.get("$ref"), str):
            parts.append(resolve_ref(reference, self._root))
        return (
            _may_be_string(schema)
            and all(self.keeps_strings(part, depth - 1) for part in parts)
            and all(
                any(map(_is_free_string, options))
                or all(self.keeps_strings(option, depth - 1) for option in options)
                for options in (_as_list(schema.get(keyword)) for keyword in ("anyOf", "oneOf"))
            )
        )


def _matches_type(value: Any, schema: Mapping[str, Any]) -> bool:
    types = schema.get("type")
    if types is None:
        return "properties" not in schema or isinstance(value, dict)
    return any(
        has_json_type(value, kind) for kind in (types if isinstance(types, list) else [types])
    )


def _may_be_string(schema: Mapping[str, Any]) -> bool:
    if not all(isinstance(member, str) for member in _list_allowed(schema) or ()):
        return False
    types = schema.get("type", "object" if "properties" in schema else "string")
    return types == "string" or (isinstance(types, list) and "string" in types)


def _is_free_string(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return False
    types = schema.get("type") or ()
    restrictions = {"enum", "const", "$ref", "allOf", "anyOf", "oneOf"}
    return (
        isinstance(types, str | list)
        and "string" in types
        and schema.keys().isdisjoint(restrictions)
    )
