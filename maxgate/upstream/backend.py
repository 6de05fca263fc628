"""The innermost backend: one call to an engine, its response as chunks."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager

from maxgate.errors import UpstreamError, UpstreamTimeout
from maxgate.generation.chunk import Chunk
from maxgate.generation.context import RequestContext
from maxgate.generation.request import GenerationRequest
from maxgate.net.event_stream import MAX_EVENT_BYTES, EventStreamDecoder, EventTooLargeError
from maxgate.upstream.errors import response_too_large
from maxgate.upstream.max_api.generation import (
    ChunkReader,
    parse_response,
    select_path,
    serialize_request,
)
from maxgate.upstream.pool import EngineCall, ReplicaPool
from maxgate.upstream.token_timeout import TokenTimeout


class UpstreamBackend:
    """Sends requests to the engines of a pool.

    Nothing is retried once a response has begun. A response that has its finish reason is complete,
    whatever happens to its connection afterwards. At most `max_calls_per_request` calls of a client
    request run at once; the others wait for their turn, without a timeout. Raises the errors of
    `ReplicaPool.send`, and UpstreamError if a response is incomplete or invalid.
    """

    def __init__(self, pool: ReplicaPool) -> None:
        self._pool = pool

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Yield the chunks of a streamed response, or one chunk otherwise; see Backend."""
        async with self._share_calls(request.context):
            call = EngineCall(
                request.model.engine_name,
                select_path(request),
                serialize_request(request),
                request.context,
                request.stream,
            )
            if not request.stream:
                yield parse_response(await self._pool.fetch(call), request)
                return
            timeout, decoder, reader = (
                TokenTimeout(self._pool.settings),
                EventStreamDecoder(),
                ChunkReader(request),
            )
            async with await self._pool.send(call) as response:
                timeout.start(response)
                try:
                    # Read past [DONE] to the end, or the connection cannot be reused.
                    async for data in response:
                        for chunk in reader.parse_events(decoder.feed(data)):
                            yield chunk
                        timeout.after_read(response, reader)
                except EventTooLargeError as error:
                    raise response_too_large(MAX_EVENT_BYTES) from error
                except (UpstreamError, UpstreamTimeout):
                    if not reader.finished:
                        raise
            reader.check_finished()
            if not reader.usage_reported:
                yield Chunk(usage=reader.usage_so_far)

    def _share_calls(self, context: RequestContext) -> AbstractAsyncContextManager[None]:
        """Return the semaphore of the client request, which may have 128 choices and prompts."""
        if context.engine_calls is None:
            settings = self._pool.settings
            # A request that needs more than all connections could never succeed.
            limit = min(settings.max_calls_per_request, settings.max_connections)
            context.engine_calls = asyncio.Semaphore(limit)
        return context.engine_calls
