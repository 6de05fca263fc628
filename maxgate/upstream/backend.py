"""The innermost backend: one request to one engine, another engine if that one does not answer."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import cast

import httpx

from maxgate.errors import UpstreamError
from maxgate.generation.events import Chunk
from maxgate.generation.request import GenerationRequest
from maxgate.upstream import engine_wire
from maxgate.upstream.endpoint import Endpoint
from maxgate.upstream.routing import least_loaded
from maxgate.upstream.settings import UpstreamSettings
from maxgate.upstream.sse import EventStreamDecoder
from maxgate.upstream.translation import NotAnswered, error_answer, translated, unavailable

_HEADERS = {"content-type": "application/json"}
_ATTEMPTS = 2


class UpstreamBackend:
    """Sends requests to engines over HTTP.

    A request that an engine did not begin to answer is tried once more, on another engine if
    there is one. Nothing is tried again after the first chunk.

    Raises UpstreamUnavailable, UpstreamOverloaded, UpstreamTimeout, UpstreamError, and
    InvalidRequest for what only the engine could find.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], client: httpx.AsyncClient, settings: UpstreamSettings
    ) -> None:
        self._endpoints = endpoints
        self._client = client
        self._settings = settings

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """The answer of the first engine that gives one."""
        avoid: list[Endpoint] = []
        failure = unavailable()
        for _ in range(_ATTEMPTS):
            endpoint = least_loaded(self._endpoints, request.model.engine_name, avoid=avoid)
            if endpoint is None:
                break
            try:
                async with aclosing(self._ask(endpoint, request)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except NotAnswered as error:
                failure = error
                self._note_failure(endpoint, error, avoid)
            else:
                return
        raise failure

    def _note_failure(self, endpoint: Endpoint, error: NotAnswered, avoid: list[Endpoint]) -> None:
        if error.refused:
            endpoint.mark_unreachable(error.message)
        # An engine closes connections that were idle; with no other engine, the same one gets a
        # second chance on a fresh connection.
        if error.refused or len(self._endpoints) > 1:
            avoid.append(endpoint)

    async def _ask(self, endpoint: Endpoint, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        with endpoint.in_use():
            async with self._response(endpoint, request) as response:
                if not request.stream:
                    with translated(answering=True):
                        content = await response.aread()
                    yield engine_wire.read_answer(content)
                    return
                async with aclosing(_chunks(response, request)) as chunks:
                    async for chunk in chunks:
                        yield chunk

    @asynccontextmanager
    async def _response(
        self, endpoint: Endpoint, request: GenerationRequest
    ) -> AsyncIterator[httpx.Response]:
        settings = self._settings
        silence = settings.first_token_timeout if request.stream else settings.response_timeout
        timeout = httpx.Timeout(silence, connect=settings.connect_timeout).as_dict()
        upstream = self._client.build_request(
            "POST",
            endpoint.url + engine_wire.path(request),
            content=engine_wire.body(request),
            headers=_HEADERS,
            extensions={"timeout": timeout},
        )
        with translated(answering=False):
            response = await self._client.send(upstream, stream=True)
        try:
            if response.status_code != 200:
                with translated(answering=True):
                    raise error_answer(response.status_code, await response.aread())
            # The transport looks the limit up anew when it begins to read the body.
            timeout["read"] = settings.idle_timeout if request.stream else silence
            yield response
        finally:
            await response.aclose()


async def _chunks(response: httpx.Response, request: GenerationRequest) -> AsyncGenerator[Chunk]:
    reader = engine_wire.ChunkReader(request)
    finished = counted = False
    async with aclosing(_events(response)) as events:
        async for event in events:
            chunk = reader.read(event)
            if finished:
                # After a stop string MAX goes on for a few tokens; only usage counts now.
                chunk = Chunk(usage=chunk.usage)
                counted = counted or chunk.usage is not None
            finished = finished or chunk.finish_reason is not None
            yield chunk
    if not finished:
        raise UpstreamError("The engine's answer was cut off.")
    if not counted:
        yield Chunk(usage=reader.counted)


async def _events(response: httpx.Response) -> AsyncGenerator[bytes]:
    decoder = EventStreamDecoder()
    # httpx declares an iterator and returns a generator, which has to be closed.
    received = cast("AsyncGenerator[bytes]", response.aiter_raw())
    with translated(answering=True):
        async with aclosing(received):
            # Read to the end, past [DONE]: only then the connection can be used again.
            async for data in received:
                for event in decoder.feed(data):
                    if event != b"[DONE]":
                        yield event
