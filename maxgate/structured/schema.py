"""What a client's schema asks for, and whether a text gives it."""

import json
from collections.abc import Mapping
from typing import Any, Final

import jsonschema_rs
import orjson

from maxgate.errors import InvalidRequest
from maxgate.structured.bounds import check_bounds
from maxgate.structured.example import example

_MOST_BACKTRACKING: Final = 10_000
_LARGEST_PATTERN: Final = 1_000_000  # bytes, compiled
_PARAM: Final = "response_format.json_schema.schema"
_DECODER: Final = json.JSONDecoder()
_ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}


class Checker:
    """A schema that is known to be one.

    It is compiled and checked in bounded time, and references lead nowhere outside the
    schema: both come from strangers. Raises InvalidRequest where it is not a schema; its message
    says what it would be the schema `of`.
    """

    def __init__(
        self, schema: Mapping[str, Any], *, of: str = "response_format", param: str = _PARAM
    ) -> None:
        self._schema = schema or _ANY_OBJECT
        try:
            check_bounds(self._schema)
            self._validator = jsonschema_rs.Draft202012Validator(
                dict(self._schema),
                pattern_options=jsonschema_rs.FancyRegexOptions(
                    backtrack_limit=_MOST_BACKTRACKING, size_limit=_LARGEST_PATTERN
                ),
                retriever=_no_reference,
            )
        except (jsonschema_rs.ValidationError, ValueError, RecursionError) as error:
            raise InvalidRequest(
                f"Invalid schema for {of}: {str(error).splitlines()[0][:200]}",
                param=param,
                code="invalid_value",
            ) from error

    def accepts(self, text: str) -> bool:
        """Whether the text is JSON that fits."""
        try:
            return self._validator.is_valid(orjson.loads(text))
        except (ValueError, RecursionError):
            return False

    @property
    def instruction(self) -> str:
        """What a model is told that has no grammar to keep it to the schema."""
        if not self._schema.get("properties"):
            return "Answer with one JSON object and nothing else."
        shape = orjson.dumps(example(self._schema)).decode()
        return f"Answer with one JSON object and nothing else, such as {shape}"


def first_value(text: str) -> str | None:
    """The JSON value that the text begins with, without what follows it; None without one."""
    begun = text.lstrip()
    try:
        _, end = _DECODER.raw_decode(begun)
    except (ValueError, RecursionError):
        return None
    return begun[:end]


def _no_reference(uri: str) -> Any:
    raise ValueError(f"references to other documents are not followed: {uri[:100]}")
