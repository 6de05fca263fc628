"""Arguments of calls in the types that the tool's schema asks for, where nothing is lost by it.

`"5"` becomes 5 where an integer is asked for, 5 becomes `"5"` where a string is, in objects and
arrays too. What does not fit in any way stays as the model wrote it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from maxgate.generation.json_schema import resolve_ref
from maxgate.tool_calling.arguments import is_a, read_value, write_value


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
                or self.fits(value, resolve_ref(reference, self._root), depth - 1)
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
            parts.append(resolve_ref(reference, self._root))
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


# Schemas come from strangers: what they refer to may go in circles, and double with each step.
_MOST_STEPS: Final = 20_000
_DEEPEST: Final = 64


class Coercion:
    """Changes the arguments of one tool, whose `parameters` are a JSON schema."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        properties = parameters.get("properties")
        self._properties = properties if isinstance(properties, Mapping) else {}
        self._parameters = parameters

    def argument(self, name: str, value: Any) -> Any:
        """The value of the argument of this name, changed or as it is."""
        return _Changes(self._parameters).of(value, self._properties.get(name), _DEEPEST)

    def keeps_text(self, name: str) -> bool:
        """Whether every text is left as it is, so that it need not be known as a whole."""
        schema = self._properties.get(name)
        if schema is None or (isinstance(schema, Mapping) and schema.get("type") == "string"):
            return schema is None or "enum" not in schema
        return SchemaFit(self._parameters, steps=_MOST_STEPS).keeps_text(schema, _DEEPEST)


class _Changes:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._fit = SchemaFit(root, steps=_MOST_STEPS)

    def of(self, value: Any, schema: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping) or not depth or not self._fit.step():
            return value
        if isinstance(reference := schema.get("$ref"), str):
            value = self.of(value, resolve_ref(reference, self._root), depth - 1)
        for part in _list(schema.get("allOf")):
            value = self.of(value, part, depth - 1)
        for options in (_list(schema.get("anyOf")), _list(schema.get("oneOf"))):
            value = self._as_one_of(value, options, depth - 1)
        value = _typed(_member(value, schema), schema)
        if isinstance(value, dict):
            return self._object(value, schema, depth - 1)
        return self._array(value, schema, depth - 1) if isinstance(value, list) else value

    def _as_one_of(self, value: Any, options: Sequence[Any], depth: int) -> Any:
        if any(self._fit.fits(value, option, depth) for option in options):
            return value
        for option in options:
            changed = self.of(value, option, depth)
            if self._fit.fits(changed, option, depth):
                return changed
        return value

    def _object(self, value: dict[str, Any], schema: Mapping[str, Any], depth: int) -> Any:
        properties, others = schema.get("properties"), schema.get("additionalProperties")
        named = properties if isinstance(properties, Mapping) else {}
        return {key: self.of(one, named.get(key, others), depth) for key, one in value.items()}

    def _array(self, value: list[Any], schema: Mapping[str, Any], depth: int) -> list[Any]:
        first, others = _list(schema.get("prefixItems")), schema.get("items")
        return [
            self.of(one, first[place] if place < len(first) else others, depth)
            for place, one in enumerate(value)
        ]


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _member(value: Any, schema: Mapping[str, Any]) -> Any:
    """The allowed value that this one is, or is written as."""
    allowed = [schema["const"]] if "const" in schema else _list(schema.get("enum"))
    for given in _written(value) if allowed else ():
        for member in allowed:
            if given == member and isinstance(given, bool) == isinstance(member, bool):
                return member
    return value


def _written(value: Any) -> Iterable[Any]:
    yield value
    if isinstance(value, str):
        yield read_value(value.strip())
    elif isinstance(value, bool | int | float):
        yield write_value(value)


def _typed(value: Any, schema: Mapping[str, Any]) -> Any:
    """The value in the first of the schema's types that holds all of it, or as it is."""
    wanted = _types(schema)
    if not wanted or any(is_a(value, kind) for kind in wanted):
        return value
    for kind in wanted:
        converted = _converted(value, kind)
        if is_a(converted, kind):
            return converted
    return value


def _types(schema: Mapping[str, Any]) -> list[str]:
    types = schema.get("type", "object" if "properties" in schema else None)
    return [kind for kind in (types if isinstance(types, list) else [types]) if kind is not None]


def _converted(value: Any, kind: str) -> Any:
    if isinstance(value, str):
        value = read_value(value.strip())
    if kind == "string" and isinstance(value, bool | int | float):
        return write_value(value)
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value
