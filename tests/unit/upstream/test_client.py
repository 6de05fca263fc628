"""The httpx engine client keeps the contract of EngineClient."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from maxgate.errors import GatewayError, UpstreamError, UpstreamOverloaded, UpstreamTimeout
from maxgate.upstream.client import HttpxEngineClient
from maxgate.upstream.errors import EngineUnreachable
from maxgate.upstream.http1.messages import EngineRequest, resolve_route

REQUEST = EngineRequest(
    resolve_route("https://engine", "/v1/x"),
    b"{}",
    connect_timeout=5,
    head_timeout=5,
    read_timeout=5,
)


class Pieces(httpx.AsyncByteStream):
    """A body of two pieces that then fails or waits forever; `closed` counts closings."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed += 1


def create_client(response: httpx.Response | Exception | None) -> HttpxEngineClient:
    """Return a client whose engine sends this response, fails, or with None never responds."""

    async def respond(_: httpx.Request) -> httpx.Response:
        if response is None:
            await asyncio.Event().wait()
        if isinstance(response, Exception):
            raise response
        assert response is not None
        return response

    return HttpxEngineClient(httpx.MockTransport(respond))


async def test_response() -> None:
    """Any status is returned, with headers and body."""
    client = create_client(httpx.Response(404, headers={"x": "y"}, content=b"no"))
    async with await client.send(REQUEST) as response:
        assert (response.status, await response.read()) == (404, b"no")
        assert (b"x", b"y") in response.headers
    await client.aclose()


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (httpx.ConnectError("x"), EngineUnreachable("refused")),
        (httpx.ConnectTimeout("x"), EngineUnreachable("connect_timeout")),
        (httpx.ReadError("x"), EngineUnreachable("disconnect")),
        (httpx.RemoteProtocolError("x"), EngineUnreachable("disconnect")),
        (httpx.ReadTimeout("x"), UpstreamTimeout("")),
        (httpx.PoolTimeout("x"), UpstreamOverloaded("")),
    ],
)
async def test_head_errors(raised: Exception, error: GatewayError) -> None:
    """Exceptions of httpx before the response head are translated."""
    client = create_client(raised)
    with pytest.raises(type(error)) as caught:
        await client.send(REQUEST)
    assert getattr(caught.value, "failure", None) == getattr(error, "failure", None)


async def test_head_timeout() -> None:
    """The response head must arrive within `head_timeout`."""
    with pytest.raises(UpstreamTimeout):
        await create_client(None).send(REQUEST._replace(head_timeout=0.01))


async def test_cut_off() -> None:
    """An error in the body is raised after the data that arrived."""
    body = Pieces(httpx.ReadError("reset"))
    async with await create_client(httpx.Response(200, stream=body)).send(REQUEST) as response:
        assert [await anext(response), await anext(response)] == [b"a", b"b"]
        with pytest.raises(UpstreamError, match="cut off"):
            await anext(response)
    assert body.closed == 1


async def test_read_timeout() -> None:
    """More of the body must arrive within `read_timeout`."""
    client = create_client(httpx.Response(200, stream=Pieces()))
    async with await client.send(REQUEST._replace(read_timeout=0.01)) as response:
        with pytest.raises(UpstreamTimeout):
            await response.read()


async def test_is_waiting() -> None:
    """A response is waiting while a read waits for the engine."""
    client = create_client(httpx.Response(200, stream=Pieces()))
    async with await client.send(REQUEST) as response:
        assert [await anext(response), await anext(response)] == [b"a", b"b"]
        assert not response.is_waiting
        asyncio.get_running_loop().call_soon(lambda: states.append(response.is_waiting))
        states: list[bool] = []
        asyncio.get_running_loop().call_later(0.01, response.interrupt)
        with pytest.raises(UpstreamTimeout):
            await anext(response)
        assert (states, response.is_waiting) == ([True], False)


async def test_closed_early() -> None:
    """Closing a response that was not read closes the stream of httpx."""
    body = Pieces()
    async with await create_client(httpx.Response(200, stream=body)).send(REQUEST):
        pass
    assert body.closed == 1
