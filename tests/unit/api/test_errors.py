"""Validation errors and gateway errors are rendered in OpenAI's shape."""

import json

import pytest
from pydantic import ValidationError

from maxgate.api.chat.schemas import ChatCompletionRequest
from maxgate.api.errors import describe_validation_error, encode_error, error_headers
from maxgate.auth.api_key import generate_key
from maxgate.errors import (
    DeadlineExceeded,
    GatewayError,
    InternalError,
    InvalidRequest,
    NotFound,
    ShuttingDown,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from maxgate.generation.errors import OutputValidationFailed

HELLO = [{"role": "user", "content": "Hello"}]


def reject(body: object) -> tuple[str | None, str | None, str]:
    """Return param, code and message of the error for a body."""
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    with pytest.raises(ValidationError) as caught:
        ChatCompletionRequest.model_validate_json(text)
    details = caught.value.errors(include_url=False)
    error = describe_validation_error(details)
    assert error.status == 400
    return error.param, error.code, error.message


@pytest.mark.parametrize(
    ("body", "param", "code", "message"),
    [
        ({}, "messages", "missing_required_parameter", "Missing required parameter: 'messages'."),
        (
            {"messages": HELLO, "colour": 1},
            "colour",
            "unknown_parameter",
            "Unknown parameter: 'colour'.",
        ),
        (
            {"messages": HELLO, "max-tokens": 1},
            "max-tokens",
            "unknown_parameter",
            "Unknown parameter: 'max-tokens'.",
        ),
        (
            {"messages": [{"role": "user", "content": "Hello", "a b\n": 1}]},
            "messages[0].a b\n",
            "unknown_parameter",
            "Unknown parameter: 'messages[0].a b\n'.",
        ),
        ({"messages": HELLO, "": 1}, "", "unknown_parameter", "Unknown parameter: ''."),
        (
            {"messages": HELLO, "functions": [{}]},
            "functions",
            "unsupported_parameter",
            "Unsupported parameter: 'functions' is not supported by this gateway.",
        ),
        (
            {"messages": HELLO, "temperature": "hot"},
            "temperature",
            "invalid_type",
            "Invalid type for 'temperature': expected a number, got a string.",
        ),
        (
            {"messages": HELLO, "stream": 1},
            "stream",
            "invalid_type",
            "Invalid type for 'stream': expected a boolean, got an integer.",
        ),
        (
            {"messages": HELLO, "tool_choice": {}},
            "tool_choice.type",
            "missing_required_parameter",
            "Missing required parameter: 'tool_choice.type'.",
        ),
        (
            {"messages": HELLO, "max_tokens": 0},
            "max_tokens",
            "integer_below_min_value",
            "Invalid value for 'max_tokens': it must be at least 1.",
        ),
        (
            {"messages": HELLO, "temperature": 2.5},
            "temperature",
            "decimal_above_max_value",
            "Invalid value for 'temperature': it must be at most 2.",
        ),
        (
            {"messages": []},
            "messages",
            "empty_array",
            "Invalid value for 'messages': it must not be empty.",
        ),
        (
            {"messages": HELLO, "stop": ["a"] * 5},
            "stop",
            "array_above_max_length",
            "Invalid value for 'stop': it must have at most 4 items.",
        ),
        (
            {"messages": HELLO, "stop": [""]},
            "stop[0]",
            "string_below_min_length",
            "Invalid value for 'stop[0]': it must have at least 1 characters.",
        ),
        (
            {"messages": [{"role": "user", "content": 5}]},
            "messages[0].content",
            "invalid_type",
            "Invalid type for 'messages[0].content': "
            "expected a string or an array, got an integer.",
        ),
        (
            {"messages": [*HELLO, {"role": "user", "content": [{"type": "text"}]}]},
            "messages[1].content[0].text",
            "missing_required_parameter",
            "Missing required parameter: 'messages[1].content[0].text'.",
        ),
        (
            {"messages": [{"role": "king", "content": "x"}]},
            "messages[0].role",
            "invalid_value",
            "Invalid value for 'messages[0].role': expected one of "
            "'system', 'developer', 'user', 'assistant' or 'tool'.",
        ),
        (
            {"messages": HELLO, "store": True},
            "store",
            "invalid_value",
            "Invalid value for 'store': expected false.",
        ),
        (
            {"messages": HELLO, "reasoning_effort": "low"},
            "reasoning_effort",
            "invalid_value",
            "Invalid value for 'reasoning_effort': expected 'none'.",
        ),
        (
            {"messages": HELLO, "metadata": {"a": "x" * 513}},
            "metadata.a",
            "string_above_max_length",
            "Invalid value for 'metadata.a': it must have at most 512 characters.",
        ),
        (
            [],
            None,
            "invalid_type",
            "The request body must be a JSON object.",
        ),
    ],
)
def test_invalid_fields(body: object, param: str | None, code: str, message: str) -> None:
    """The error names the field by its path, with OpenAI's code."""
    assert reject(body) == (param, code, message)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "nonsense",
        '{"messages": [}',
        '{"messages": ["\\ud800"]}',
        "[" * 100_000,
        b"\xff\xfe{\x00}\x00",
        '{"messages": []} {}',
        "\ufeff{}",
    ],
)
def test_invalid_json(body: str | bytes) -> None:
    """Anything but one JSON value in UTF-8 gives an error without a field."""
    assert reject(body) == (
        None,
        None,
        "The request body could not be parsed as JSON.",
    )


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_non_finite_numbers(value: str) -> None:
    """NaN, infinities and numbers that overflow are not numbers."""
    body = '{"messages":[{"role":"user","content":"x"}],"temperature":VALUE}'
    param, code, _ = reject(body.replace("VALUE", value))
    assert (param, code) == ("temperature", "invalid_type")


def test_encode_error() -> None:
    """An error has all four keys, with null where there is no value."""
    assert json.loads(encode_error(InvalidRequest("No.", param="a.b", code="c"))) == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "a.b", "code": "c"}
    }
    assert json.loads(encode_error(InternalError())) == {
        "error": {
            "message": "The gateway failed to process the request. The logs have the details.",
            "type": "server_error",
            "param": None,
            "code": "internal_error",
        }
    }


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (
            UpstreamUnavailable("", retry_after=2),
            {b"retry-after": b"2", b"retry-after-ms": b"2000", b"x-should-retry": b"true"},
        ),
        (UpstreamOverloaded(""), {b"x-should-retry": b"true"}),
        (UpstreamError(""), {b"x-should-retry": b"true"}),
        (
            ShuttingDown(),
            {b"retry-after": b"5", b"retry-after-ms": b"5000", b"x-should-retry": b"true"},
        ),
        (UpstreamTimeout(""), {b"x-should-retry": b"false"}),
        (DeadlineExceeded(""), {b"x-should-retry": b"false"}),
        (OutputValidationFailed(""), {b"x-should-retry": b"false"}),
        (InvalidRequest(""), {b"x-should-retry": b"false"}),
        (NotFound(""), {}),
    ],
)
def test_error_headers(error: GatewayError, headers: dict[bytes, bytes]) -> None:
    """Errors tell SDKs whether and when to retry, where the status alone does not."""
    assert dict(error_headers(error)) == {b"content-type": b"application/json", **headers}


@pytest.mark.parametrize(
    ("pause", "seconds", "milliseconds"),
    [
        (0, b"1", b"1"),
        (0.0004, b"1", b"1"),
        (0.25, b"1", b"250"),
        (1.0, b"1", b"1000"),
        (1.1, b"2", b"1100"),
        (1.1004, b"2", b"1101"),
        (30, b"30", b"30000"),
    ],
)
def test_retry_after(pause: float, seconds: bytes, milliseconds: bytes) -> None:
    """The pause before a retry is sent in seconds and in milliseconds, rounded up."""
    headers = dict(error_headers(UpstreamOverloaded("", retry_after=pause)))
    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (seconds, milliseconds)


@pytest.mark.parametrize(
    ("part", "medium"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}, "images"),
        ({"type": "image", "source": {"type": "base64", "data": "AA=="}}, "images"),
        ({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}, "audio clips"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "files"),
        ({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}, "videos"),
    ],
)
@pytest.mark.parametrize("role", ["user", "tool"])
def test_media_part(role: str, part: dict[str, object], medium: str) -> None:
    """A content part that is not text is rejected by position, type and medium."""
    content = [{"type": "text", "text": "Describe this."}, part]
    assert reject({"messages": [{"role": role, "content": content}]}) == (
        "messages[0].content[1]",
        "invalid_value",
        f"Unsupported content part 'messages[0].content[1]' of type '{part['type']}': {medium} are "
        "not supported by this gateway. Send only parts of type 'text'.",
    )


def test_keys_in_errors() -> None:
    """A key that a client sends in a wrong place is not repeated."""
    key = generate_key()
    error = InvalidRequest(f"Unknown parameter: {key!r}.", param=key, code="unknown_parameter")
    body = encode_error(error).decode()
    assert key[12:-4] not in body
    assert key[-4:] in body
