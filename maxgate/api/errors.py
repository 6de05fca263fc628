"""Render errors as OpenAI's error objects; all four keys are always present."""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from pydantic import BaseModel
from pydantic_core import ErrorDetails
from starlette.types import Message

from maxgate.auth.api_key import redact_keys
from maxgate.errors import GatewayError, InvalidRequest
from maxgate.generation.request_record import Outcome, RequestRecord


class ErrorBody(BaseModel):
    """An error; `param` is the path of the request field at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    """Body of every response with a status of 400 or above."""

    error: ErrorBody


def encode_error(error: GatewayError) -> bytes:
    """Encode the body of an error response, or the data of an error event in a stream.

    It may quote a part of the request, where clients send keys by mistake.
    """
    return orjson.dumps(
        {
            "error": {
                "message": redact_keys(error.message),
                "type": error.type,
                "param": error.param and redact_keys(error.param),
                "code": error.code,
            }
        }
    )


def error_headers(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """Return the headers of an error response; they tell OpenAI's SDKs whether to retry."""
    headers = {"content-type": "application/json", **error.headers()}
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def error_response(error: GatewayError) -> list[Message]:
    """Return the ASGI messages of an error response."""
    body = encode_error(error)
    headers = [*error_headers(error), (b"content-length", b"%d" % len(body))]
    return [
        {"type": "http.response.start", "status": error.status, "headers": headers},
        {"type": "http.response.body", "body": body, "more_body": False},
    ]


def record_error(record: RequestRecord, error: GatewayError) -> None:
    """Note the outcome and the error code of a failed request."""
    record.outcome = classify_error(error)
    record.error_code = error.code


def classify_error(error: GatewayError) -> Outcome:
    """Return the outcome that the error counts as."""
    if error.status < 500:
        return "client_error"
    by_status: dict[int, Outcome] = {502: "upstream_error", 503: "unavailable", 504: "timeout"}
    return by_status.get(error.status, "internal_error")


def describe_validation_error(
    all_details: Sequence[ErrorDetails], *, param: str | None = None
) -> InvalidRequest:
    """Turn pydantic's error details into OpenAI's message and code, for the most specific one.

    `param` names a parameter outside of the body; a field of the body is named by its location.
    """
    if param is not None:
        code, message = _describe(all_details[0], param)
        return InvalidRequest(message, param=param, code=code)
    # A union yields an error per type; the deepest one belongs to the type that was meant.
    details = max(all_details, key=lambda d: (len(d["loc"]), not d["type"].endswith("_type")))
    if details["type"] == "json_invalid":
        return InvalidRequest("The request body could not be parsed as JSON.")
    is_unknown = details["type"] == "extra_forbidden"
    param = _param(details["loc"], is_unknown=is_unknown)
    if not param and not is_unknown:
        return InvalidRequest("The request body must be a JSON object.", code="invalid_type")
    code, message = _describe(details, param)
    return InvalidRequest(message, param=param, code=code)


def duplicate_parameter(name: str) -> InvalidRequest:
    """Build the error for a field of a body or query that is there twice."""
    shown = name[:200]
    return InvalidRequest(
        f"Duplicate parameter: '{shown}' is sent more than once.",
        param=shown,
        code="duplicate_parameter",
    )


_KINDS: Final = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
    type(None): "null",
}
_EXPECTED: Final = {
    "string": "a string",
    "bool": "a boolean",
    "int": "an integer",
    "float": "a number",
    "list": "an array",
    "tuple": "an array",
    "dict": "an object",
    "model": "an object",
    "model_attributes": "an object",
    "finite_number": "a finite number",
}
# Texts of the query string that are something else.
_PARSED: Final = {
    "int_parsing": "an integer",
    "int_parsing_size": "an integer",
    "int_from_float": "an integer",
    "bool_parsing": "a boolean",
    "float_parsing": "a number",
}
_AS_JSON: Final = {"False": "false", "True": "true"}
# pydantic's error type -> OpenAI's code and message.
_WORDS: Final = {
    "missing": ("missing_required_parameter", "Missing required parameter: '{param}'."),
    "extra_forbidden": ("unknown_parameter", "Unknown parameter: '{param}'."),
    "none_required": (
        "unsupported_parameter",
        "Unsupported parameter: '{param}' is not supported by this gateway.",
    ),
}
# The same for limits.
_BOUNDS: Final = {
    "greater_than": ("below_min_value", "must be greater than {limit}"),
    "greater_than_equal": ("below_min_value", "must be at least {limit}"),
    "less_than": ("above_max_value", "must be less than {limit}"),
    "less_than_equal": ("above_max_value", "must be at most {limit}"),
    "string_too_short": ("string_below_min_length", "must have at least {limit} characters"),
    "string_too_long": ("string_above_max_length", "must have at most {limit} characters"),
    "too_short": ("array_below_min_length", "must have at least {limit} items"),
    "too_long": ("array_above_max_length", "must have at most {limit} items"),
}
_LIMITS: Final = ("gt", "ge", "lt", "le", "min_length", "max_length")
# Type of a content part -> its medium; the names of OpenAI, of its Responses API and of Anthropic.
_MEDIA: Final = {
    "image_url": "images",
    "input_image": "images",
    "image": "images",
    "image_file": "images",
    "input_audio": "audio clips",
    "audio": "audio clips",
    "audio_url": "audio clips",
    "file": "files",
    "input_file": "files",
    "document": "files",
    "video": "videos",
    "video_url": "videos",
}


def _describe(details: ErrorDetails, param: str) -> tuple[str, str]:
    kind, context = details["type"], details.get("ctx", {})
    if kind in _WORDS:
        code, words = _WORDS[kind]
        return code, words.format(param=param)
    if kind in _BOUNDS:
        return _bound(kind, context, details["input"], param)
    if (expected := _EXPECTED.get(kind.removesuffix("_type"))) is not None:
        if details["loc"][-1:] == ("str",):
            expected += " or an array"
        got = _KINDS.get(type(details["input"]), "something else")
        return "invalid_type", f"Invalid type for '{param}': expected {expected}, got {got}."
    if kind == "union_tag_invalid" and (medium := _MEDIA.get(context["tag"])) is not None:
        return "invalid_value", (
            f"Unsupported content part '{param}' of type '{context['tag']}': {medium} are not "
            "supported by this gateway. Send only parts of type 'text'."
        )
    if allowed := context.get("expected") or context.get("expected_tags") or _PARSED.get(kind):
        several = "one of " if " or " in allowed or ", " in allowed else ""
        words = _AS_JSON.get(allowed, allowed)
        return "invalid_value", f"Invalid value for '{param}': expected {several}{words}."
    message = details["msg"].removeprefix("Value error, ")
    return "invalid_value", f"Invalid value for '{param}': {message}"


def _bound(kind: str, context: dict[str, Any], given: object, param: str) -> tuple[str, str]:
    code, words = _BOUNDS[kind]
    if kind == "too_short" and context.get("min_length") == 1:
        return "empty_array", f"Invalid value for '{param}': it must not be empty."
    limit = next(context[name] for name in _LIMITS if name in context)
    if not isinstance(limit, int | float):  # such as a date
        return "invalid_value", f"Invalid value for '{param}': it {words.format(limit=limit)}."
    if code.endswith("_value"):
        # Values of the query string are texts.
        is_integer = isinstance(given, int) or (isinstance(given, str) and "." not in given)
        code = ("integer_" if is_integer else "decimal_") + code
    return code, f"Invalid value for '{param}': it {words.format(limit=f'{limit:g}')}."


# pydantic puts the name of the attempted type into the location.
_TYPE_NAMES: Final = {"str", "int"}
# The same for the tag of a discriminated union.
_TAGS: Final = {"text", "refusal", "json_object", "json_schema"}


def _param(location: Sequence[str | int], *, is_unknown: bool) -> str:
    """Return the path of a field; the last step of an unknown one may be any text."""
    path = ""
    for index, (before, step) in enumerate(zip(("", *location), location, strict=False), 1):
        is_tag = step in _TAGS and (isinstance(before, int) or before == "response_format")
        if isinstance(step, int):
            path += f"[{step}]"
        elif (is_unknown and index == len(location)) or (
            step.isidentifier() and step not in _TYPE_NAMES and not is_tag
        ):
            path += f".{step}" if path else step
    return path[:200]
