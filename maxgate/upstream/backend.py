"""The innermost backend: one call to an engine, its response as chunks."""

from collections.abc import AsyncGenerator

from maxgate.generation.chunk import Chunk
from maxgate.generation.request import GenerationRequest
from maxgate.net.event_stream import EventStreamDecoder
from maxgate.upstream.errors import response_cut_off
from maxgate.upstream.max_api.generation import (
    ChunkReader,
    parse_response,
    select_path,
    serialize_request,
)
from maxgate.upstream.pool import EngineCall, ReplicaPool


class UpstreamBackend:
    """Sends requests to the engines of a pool.

    Nothing is retried once a response has begun. Raises the errors of `ReplicaPool.send`, and
    UpstreamError if a response is incomplete or invalid.
    """

    def __init__(self, pool: ReplicaPool) -> None:
        self._pool = pool

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Yield the chunks of a streamed response, or one chunk otherwise; see Backend."""
        call = EngineCall(
            request.model.engine_name,
            select_path(request),
            serialize_request(request),
            request.context,
            request.stream,
        )
        async with await self._pool.send(call) as response:
            if not request.stream:
                yield parse_response(await response.read(), request)
                return
            decoder, reader = EventStreamDecoder(), ChunkReader(request)
            # Read past [DONE] to the end, or the connection cannot be reused.
            async for data in response:
                for chunk in reader.parse_events(decoder.feed(data)):
                    yield chunk
        if not reader.finished:
            raise response_cut_off()
        if not reader.usage_reported:
            yield Chunk(usage=reader.usage_so_far)
