"""The interface of clients for engines, and the one that uses httpx."""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import AsyncGeneratorType
from typing import Protocol, cast

import httpx

from maxgate.generation.context import RequestContext
from maxgate.upstream.connect_errors import map_httpx_error
from maxgate.upstream.errors import engine_timeout
from maxgate.upstream.http1.connection import EngineResponse
from maxgate.upstream.http1.messages import EngineRequest
from maxgate.upstream.settings import UpstreamSettings


class EngineClient(Protocol):
    """Sends requests to engines, each exactly once; retries are the caller's."""

    async def send(self, request: EngineRequest) -> EngineResponse:
        """Send the request and wait for the response head; any status is returned.

        Raises EngineUnreachable if the engine did not respond, UpstreamTimeout,
        UpstreamOverloaded if all connections are in use, and OutOfResources.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections that are not in use."""
        ...


class HttpxEngineClient:
    """An EngineClient over httpx: for HTTPS, and for tests that hand in a transport."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        settings: UpstreamSettings | None = None,
        ca_file: Path | None = None,
        on_closed_early: Callable[[RequestContext | None], None] = lambda _: None,
    ) -> None:
        """`ca_file` has the CA certificates to trust instead of the system's.

        `on_closed_early` is called with the request's context when a connection is closed because
        the request was cancelled or its response was not read to the end.
        """
        settings = settings or UpstreamSettings()
        limits = httpx.Limits(
            max_connections=settings.max_connections, keepalive_expiry=settings.keepalive_expiry
        )
        verify = True if ca_file is None else ssl.create_default_context(cafile=ca_file)
        self._on_closed_early = on_closed_early
        self._client = httpx.AsyncClient(
            transport=transport, limits=limits, trust_env=False, verify=verify
        )

    async def send(self, request: EngineRequest) -> EngineResponse:
        """Send the request through httpx; see EngineClient."""
        # The timeout of the body is another one, so httpx's own read timeout is not used.
        timeout = httpx.Timeout(None, connect=request.connect_timeout, pool=request.connect_timeout)
        message = httpx.Request(
            request.route.method,
            request.route.url,
            headers=[*request.route.headers, *request.headers],
            content=request.body,
            extensions={"timeout": timeout.as_dict()},
        )
        try:
            async with asyncio.timeout(request.head_timeout):
                response = await self._client.send(message, stream=True)
        except TimeoutError as error:
            raise engine_timeout() from error
        except httpx.HTTPError as error:
            raise map_httpx_error(error, responding=False) from error
        except asyncio.CancelledError:
            self._on_closed_early(request.context)  # httpx has closed the connection
            raise
        on_closed_early = partial(self._on_closed_early, request.context)
        body = _HttpxBody(response, request.read_timeout, on_closed_early)
        return EngineResponse(response.status_code, response.headers.raw, body)

    async def aclose(self) -> None:
        """Close the httpx client."""
        await self._client.aclose()


class _HttpxBody:
    """The body of an httpx response as a ResponseBody."""

    def __init__(
        self, response: httpx.Response, timeout: float, on_closed_early: Callable[[], None]
    ) -> None:
        self._response = response
        self._on_closed_early = on_closed_early
        self._wait: asyncio.Timeout | None = None
        self._pieces = cast("AsyncGeneratorType[bytes]", response.aiter_bytes())
        self.read_timeout = timeout

    @property
    def is_waiting(self) -> bool:
        return self._pieces.ag_running

    async def __anext__(self) -> bytes:
        try:
            async with asyncio.timeout(self.read_timeout) as self._wait:
                return await anext(self._pieces)
        except TimeoutError as error:
            raise engine_timeout() from error
        except httpx.HTTPError as error:
            raise map_httpx_error(error, responding=True) from error

    def interrupt(self) -> None:
        self.read_timeout = 0.0
        if self._wait is not None and self._wait.when() is not None:
            self._wait.reschedule(0.0)

    async def aclose(self) -> None:
        is_early = not self._response.is_closed  # httpx closes it at its end
        await self._pieces.aclose()
        await self._response.aclose()
        if is_early:
            self._on_closed_early()
