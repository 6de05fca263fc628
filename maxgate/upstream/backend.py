"""The innermost backend: one request to one engine, another engine if that one does not answer."""

from collections.abc import AsyncGenerator, Sequence

import httpx

from maxgate.errors import UpstreamError
from maxgate.generation.events import Chunk
from maxgate.generation.request import GenerationRequest
from maxgate.upstream import engine_wire
from maxgate.upstream.answer import EngineAnswer, ask
from maxgate.upstream.endpoint import Endpoint
from maxgate.upstream.routing import least_loaded
from maxgate.upstream.settings import UpstreamSettings
from maxgate.upstream.sse import EventStreamDecoder
from maxgate.upstream.translation import NotAnswered, unavailable

_ATTEMPTS = 2
_DONE = b"[DONE]"


class UpstreamBackend:
    """Sends requests to engines over HTTP.

    A request that an engine did not begin to answer is tried once more, on another engine if
    there is one. Nothing is tried again after an answer has begun.

    Raises UpstreamUnavailable, UpstreamOverloaded, UpstreamTimeout, UpstreamError, and
    InvalidRequest for what only the engine could find.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        transport: httpx.AsyncBaseTransport,
        settings: UpstreamSettings,
    ) -> None:
        self._endpoints = endpoints
        self._transport = transport
        self._settings = settings

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """The answer of the first engine that gives one."""
        answer = await self._first_answer(request)
        try:
            if not request.stream:
                yield engine_wire.read_answer(await answer.content(), request)
                return
            decoder, reader = EventStreamDecoder(), engine_wire.ChunkReader(request)
            # To the end, past [DONE]: only then the connection can be used again.
            async for data in answer:
                events = decoder.feed(data)
                while events and events[-1] == _DONE:
                    events.pop()
                for left, event in zip(range(len(events) - 1, -1, -1), events, strict=True):
                    yield reader.read(event, more=left > 0)
        finally:
            await answer.aclose()
        if not reader.finished:
            raise UpstreamError("The engine's answer was cut off.")
        if not reader.was_counted:
            yield Chunk(usage=reader.counted)

    async def _first_answer(self, request: GenerationRequest) -> EngineAnswer:
        avoid: list[Endpoint] = []
        failure: NotAnswered | None = None
        for _ in range(_ATTEMPTS):
            endpoint = least_loaded(self._endpoints, request.model.engine_name, avoid=avoid)
            if endpoint is None:
                break
            try:
                return await ask(endpoint, self._transport, request, self._settings)
            except NotAnswered as error:
                failure = error
                self._note_failure(endpoint, error, avoid)
        raise failure or unavailable()

    def _note_failure(self, endpoint: Endpoint, error: NotAnswered, avoid: list[Endpoint]) -> None:
        if error.refused:
            endpoint.mark_unreachable(error.message)
        # An engine that restarts hangs up; with no other engine, the same one gets a second chance.
        if error.refused or len(self._endpoints) > 1:
            avoid.append(endpoint)
