"""Error responses of MAX become the gateway's errors."""

import pytest

from maxgate.errors import GatewayError, InvalidRequest, UpstreamError, UpstreamOverloaded
from maxgate.generation.errors import ContextLengthExceeded
from maxgate.upstream.errors import EngineUnreachable, Failure, map_error_response

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
    ],
)
def test_error_response(status: int, content: bytes, error: type[GatewayError]) -> None:
    """The status decides, and MAX's own text is not passed on."""
    mapped = map_error_response(status, content)
    assert type(mapped) is error
    assert "Value error" not in mapped.message
    assert "/root" not in mapped.message


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
