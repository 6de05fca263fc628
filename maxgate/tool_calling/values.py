"""Argument values as models write them, read and written as JSON.

Models write JSON, Python literals, and mixtures of both.
"""

import ast
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

_PYTHON_NAMES: Final = {"true": "True", "false": "False", "null": "None"}
_STRING_OR_JSON_NAME: Final = re.compile(
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
_PARSE_ERRORS: Final = (ValueError, SyntaxError, RecursionError, MemoryError, TypeError)


def _reject_constant(name: str) -> None:
    raise ValueError(name)


def _parse_finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(text)
    return number


# Built once: `json.loads` and `json.dumps` with options build a new one for each value.
_DECODER: Final = json.JSONDecoder(
    strict=False, parse_constant=_reject_constant, parse_float=_parse_finite
)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_ASCII_ENCODER: Final = json.JSONEncoder(allow_nan=False)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def read_value(raw: str) -> Any:
    """Parse a JSON value or Python literal; return any other text unchanged."""
    try:
        return _DECODER.decode(raw)
    except _PARSE_ERRORS:
        pass
    try:
        value = ast.literal_eval(_STRING_OR_JSON_NAME.sub(_convert_name, raw))
        _ENCODER.encode(value)
    except _PARSE_ERRORS:
        return raw
    return value


def write_value(value: Any) -> str:
    """Write the value as JSON; lone surrogates, which UTF-8 cannot encode, stay escaped."""
    written = _ENCODER.encode(value)
    if written.isascii() or _SURROGATE.search(written) is None:
        return written
    return _ASCII_ENCODER.encode(value)


def _convert_name(found: re.Match[str]) -> str:
    return _PYTHON_NAMES.get(found[0], found[0])


def has_json_type(value: Any, kind: Any) -> bool:
    """Whether the value is of this JSON schema type."""
    if isinstance(value, bool):  # bool is a subclass of int
        return bool(kind == "boolean")
    return isinstance(kind, str) and isinstance(value, _PYTHON_TYPES.get(kind, ()))
