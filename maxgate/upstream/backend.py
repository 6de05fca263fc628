"""The innermost backend: one request to one engine, its answer as chunks."""

from collections.abc import AsyncGenerator

from maxgate.errors import UpstreamError
from maxgate.generation.chunk import Chunk
from maxgate.generation.request import GenerationRequest
from maxgate.net.event_stream import EventStreamDecoder
from maxgate.upstream.max_api import generation as engine_wire
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import EngineCall


class UpstreamBackend:
    """Sends requests to engines over HTTP.

    Nothing is tried again after an answer has begun. Raises what `ReplicaPool.ask` does, and
    UpstreamError where an answer is cut off.
    """

    def __init__(self, engines: ReplicaPool) -> None:
        self._engines = engines

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """The answer of the first engine that gives one."""
        async with await self._engines.ask(_call(request)) as answer:
            if not request.stream:
                yield engine_wire.read_answer(await answer.content(), request)
                return
            decoder, reader = EventStreamDecoder(), engine_wire.ChunkReader(request)
            # To the end, past [DONE]: only then the connection can be used again.
            async for data in answer:
                for chunk in reader.chunks(decoder.feed(data)):
                    yield chunk
        if not reader.finished:
            raise UpstreamError("The engine's answer was cut off.")
        if not reader.was_counted:
            yield Chunk(usage=reader.counted)


def _call(request: GenerationRequest) -> EngineCall:
    return EngineCall(
        request.model.engine_name,
        engine_wire.path(request),
        engine_wire.body(request),
        request.stream,
    )
