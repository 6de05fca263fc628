"""Error responses of MAX become the gateway's errors."""

import socket
import ssl
from itertools import pairwise

import pytest

from maxgate.errors import (
    GatewayError,
    InvalidRequest,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamUnavailable,
)
from maxgate.generation.errors import ContextLengthExceeded
from maxgate.upstream.connect_errors import describe_connect_error
from maxgate.upstream.errors import (
    EngineUnreachable,
    Failure,
    map_error_response,
)

TOO_LONG = (
    b'{"error":{"message":"Prompt is too long: 9000 tokens exceeds the configured maximum context '
    b'length of 8192 tokens."}}'
)


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (429, b"{}", UpstreamOverloaded),
        (500, b"<html>Internal Server Error</html>", UpstreamError),
        (404, b'{"error":{"message":"no such model /root/x"}}', UpstreamError),
        (400, b'{"error":{"message":"Value error."}}', InvalidRequest),
        (422, b'{"error":null}', InvalidRequest),
        (400, TOO_LONG, ContextLengthExceeded),
        (400, b'{"message":"maximum context length is 8 tokens","code":400}', InvalidRequest),
        (400, b'{"error":{"type":"exceed_context_size_error","code":400}}', InvalidRequest),
        (400, b'{"error":"a text"}', InvalidRequest),
        (503, b"", UpstreamUnavailable),
        (502, b"[]", UpstreamError),
    ],
)
def test_error_response(status: int, content: bytes, error: type[GatewayError]) -> None:
    """The status decides, and MAX's own text is not passed on."""
    mapped = map_error_response(status, content)
    assert type(mapped) is error
    assert "Value error" not in mapped.message
    assert "/root" not in mapped.message


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b'{"error":{"code":"context_length_exceeded"}}', "context_length_exceeded"),
        (b'{"error":{"type":"exceed_context_size_error"}}', "context_length_exceeded"),
        (b'{"message":"maximum context length is 8 tokens"}', "context_length_exceeded"),
        # vLLM 0.32.
        (
            b'{"error":{"message":"max_tokens=100 cannot be greater than max_model_len=8",'
            b'"type":"BadRequestError","param":"max_tokens","code":400}}',
            "context_length_exceeded",
        ),
        (b'{"error":{"code":"content_filter"}}', "content_filter"),
        (b'{"error":{"code":"content_policy_violation"}}', "content_policy_violation"),
    ],
)
def test_error_codes(content: bytes, code: str) -> None:
    """Codes that clients act on are kept, whatever the engine."""
    assert map_error_response(400, content).code == code


@pytest.mark.parametrize(
    ("value", "seconds"), [(b"17", 17), (b"0", 1), (b"9" * 99, 3600), (b"soon", 2), (b"-1", 2)]
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(status: int, value: bytes, seconds: int) -> None:
    """Retry-After is kept within bounds; a date or nonsense gives the default."""
    error = map_error_response(status, b"", [(b"Retry-After", value)])
    assert error.headers()["retry-after"] == str(seconds)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("refused", "The engine cannot be reached."),
        ("connect_timeout", "The engine cannot be reached."),
        ("disconnect", "The engine closed the connection before it responded."),
        ("stale", "The engine closed the connection before it responded."),
    ],
)
def test_engine_unreachable(failure: Failure, message: str) -> None:
    """The error says whether there was a connection, and when to try again."""
    error = EngineUnreachable(failure)
    assert (error.message, error.retry_after) == (message, 2)


def chain(*errors: BaseException) -> BaseException:
    """Return the first error, each caused by the next."""
    for error, cause in pairwise(errors):
        error.__cause__ = cause
    return errors[0]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed"), "connection refused"),
        (
            socket.gaierror(-2, "Name or service not known"),
            "unknown host (Name or service not known)",
        ),
        (OSError(113, "No route to host"), "No route to host"),
        (chain(ValueError("x"), OSError(113, "No route to host")), "No route to host"),
        (ssl.SSLError(1, "x"), "TLS failed (unknown); does the engine speak HTTPS?"),
        (ValueError("x"), None),
    ],
)
def test_connect_error(error: BaseException, cause: str | None) -> None:
    """The cause of a failed connection is found in the chain of exceptions."""
    assert describe_connect_error(error) == cause
