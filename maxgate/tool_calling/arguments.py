"""Values of a call's arguments, as models write them, and as JSON.

Models write JSON, Python literals, and mixtures of both.
"""

import ast
import json
import math
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


def _finite_number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(text)
    return number


# Made once: `json.loads` and `json.dumps` make them anew for each value.
_DECODER: Final = json.JSONDecoder(
    strict=False, parse_constant=_no_constant, parse_float=_finite_number
)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_ASCII_ENCODER: Final = json.JSONEncoder(allow_nan=False)
_HALF_A_PAIR: Final = re.compile("[\ud800-\udfff]")


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
    """The value as JSON; half of a surrogate pair, which UTF-8 cannot hold, stays escaped."""
    written = _ENCODER.encode(value)
    if written.isascii() or _HALF_A_PAIR.search(written) is None:
        return written
    return _ASCII_ENCODER.encode(value)


def _as_python(found: re.Match[str]) -> str:
    return _WORDS.get(found[0], found[0])


def is_a(value: Any, kind: Any) -> bool:
    """Whether the value is of this type, in the words of JSON schemas."""
    if isinstance(value, bool):  # which Python counts as an integer
        return bool(kind == "boolean")
    return isinstance(kind, str) and isinstance(value, _PYTHON_TYPES.get(kind, ()))
