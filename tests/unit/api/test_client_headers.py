"""Headers of clients fill in the request's context and start its timer."""

import asyncio
from collections.abc import Sequence

import pytest

from maxgate.api.client_headers import ClientHeaders
from maxgate.errors import InvalidRequest
from maxgate.generation.context import RequestContext
from tests.fakes.requests import request_context


def apply(**headers: str) -> RequestContext:
    """Return the context of a request with these headers, whose timer is cancelled."""
    context = request_context()
    given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    ClientHeaders().apply(given, context).cancel()
    return context


def test_session() -> None:
    """`X-Session-Id`, or the header of the setting, names the session."""
    assert apply(x_session_id="mine").session == "mine"
    assert apply(x_session_id="").session is None
    context = request_context()
    ClientHeaders("X-Chat").apply({b"x-chat": b"other"}, context)
    assert context.session == "other"


@pytest.mark.parametrize(
    ("counts", "is_retry"), [(("1", "10"), True), (("0", "00", "", "-1", "x"), False)]
)
def test_retry_count(counts: Sequence[str], *, is_retry: bool) -> None:
    """A positive retry count marks the request as a retry; others do not."""
    for count in counts:
        assert apply(x_stainless_retry_count=count).is_client_retry is is_retry


@pytest.mark.parametrize(
    "value",
    ["", "0", "0.0", "-1", "1e3", "inf", "nan", "5s", "1, 2", "1.", ".5", "9" * 10, "\u0661"],
)
async def test_invalid_timeout(value: str) -> None:
    """An invalid `X-Request-Timeout` is an error that names header, value and rule."""
    given = {b"x-request-timeout": value.encode()}
    with pytest.raises(InvalidRequest) as caught:
        ClientHeaders().apply(given, request_context())
    shown = value.encode().decode("latin-1")
    assert caught.value.message == (
        f"Invalid value for header 'X-Request-Timeout': {shown!r} is not a positive decimal number "
        "of seconds, such as 30 or 2.5."
    )
    assert (caught.value.param, caught.value.code) == ("X-Request-Timeout", "invalid_value")


async def test_deadline() -> None:
    """`X-Request-Timeout` sets the deadline; timeouts of SDKs do not, valid or not."""
    now = asyncio.get_running_loop().time()
    deadline = apply(x_request_timeout="2.5", x_stainless_read_timeout="1").deadline
    assert deadline is not None
    assert 2.5 <= deadline - now < 3.5
    for value in ("600", "600.0", "None", "-1", "0"):
        assert apply(x_stainless_read_timeout=value).deadline is None


async def cancel_after(seconds: str, context: RequestContext, **headers: str) -> str:
    """Wait until the request is cancelled, at most two seconds, and return the reason."""
    given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    timer = ClientHeaders().apply({**given, b"x-stainless-read-timeout": seconds.encode()}, context)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(2)
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()
    assert timer.error is not None
    return timer.error.message


async def test_read_timeout() -> None:
    """An SDK's timeout ends a plain response and a stream without its first token."""
    expected = "The response was not complete within 0.01 seconds, the client's timeout."
    plain, stream = request_context(), request_context()
    stream.record.stream = True
    assert await cancel_after("0.01", plain) == expected
    assert await cancel_after("0.01", stream) == expected


async def test_read_timeout_after_first_token() -> None:
    """After its first token, a stream is bounded by `X-Request-Timeout` only."""
    context = request_context()
    context.record.stream, context.record.first_token_at = True, 1.0
    assert await cancel_after("0.01", context, x_request_timeout="0.05") == (
        "The response was not complete within 0.05 seconds, its X-Request-Timeout."
    )
