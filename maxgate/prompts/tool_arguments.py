"""Values of a call's arguments, as models write them, and as JSON.

Models write JSON, Python literals, and mixtures of both. A value is turned into the type that the
tool's schema asks for where nothing is lost by it; otherwise it stays what it was.
"""

import ast
import json
import re
from collections.abc import Mapping
from typing import Any, Final

_WORDS: Final = {"true": "True", "false": "False", "null": "None"}
_WORD_OR_STRING: Final = re.compile(
    r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\b(?:true|false|null)\b""", re.DOTALL
)
_PYTHON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_UNREADABLE: Final = (ValueError, SyntaxError, RecursionError, MemoryError, TypeError)


def _no_constant(name: str) -> None:
    raise ValueError(name)


# Made once: `json.loads` and `json.dumps` make them anew for each value.
_DECODER: Final = json.JSONDecoder(strict=False, parse_constant=_no_constant)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def read_value(raw: str) -> Any:
    """A JSON value or Python literal; text that is neither is taken as it stands."""
    try:
        return _DECODER.decode(raw)
    except _UNREADABLE:
        pass
    try:
        value = ast.literal_eval(_WORD_OR_STRING.sub(_as_python, raw))
        _ENCODER.encode(value)
    except _UNREADABLE:
        return raw
    return value


def write_value(value: Any) -> str:
    """The value as JSON."""
    return _ENCODER.encode(value)


def coerced(value: Any, schema: Mapping[str, Any]) -> Any:
    """The value in the first of the schema's types that holds all of it, or as it is."""
    types = schema.get("type")
    named = types if isinstance(types, list) else [types]
    wanted = [kind for kind in named if isinstance(kind, str)]
    if not wanted or any(_is_a(value, kind) for kind in wanted):
        return value
    for kind in wanted:
        converted = _convert(value, kind)
        if _is_a(converted, kind):
            return converted
    return value


def may_be_text(schema: Mapping[str, Any]) -> bool:
    """Whether a string needs no other type."""
    types = schema.get("type", "string")
    return types == "string" or (isinstance(types, list) and "string" in types)


def _as_python(found: re.Match[str]) -> str:
    return _WORDS.get(found[0], found[0])


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):  # which Python counts as an integer
        return kind == "boolean"
    return isinstance(value, _PYTHON_TYPES.get(kind, ()))


def _convert(value: Any, kind: str) -> Any:
    if isinstance(value, str):
        value = read_value(value.strip())
    if kind == "string" and isinstance(value, bool | int | float):
        return write_value(value)
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value
