"""The telemetry layers: what an answer takes and gives, onto the request's record."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from maxgate.clock import Clock
from maxgate.generation.backend import Backend, Embedder, EmbeddingRequest, Embeddings
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.request import GenerationRequest
from maxgate.generation.request_record import RequestRecord


class TelemetryLayer:
    """Times the stream and counts its tokens, however it ends."""

    def __init__(self, inner: Backend, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """The inner stream, unchanged."""
        record = request.context.record
        record.model = request.model.name
        usage: Usage | None = None
        pieces = 0
        try:
            async with aclosing(self._inner.stream(request)) as chunks:
                async for chunk in chunks:
                    if chunk.text or chunk.tool_calls:
                        pieces += 1
                        if request.stream:
                            record.last_token_at = self._clock.monotonic()
                            record.first_token_at = record.first_token_at or record.last_token_at
                    usage = chunk.usage or usage
                    yield chunk
        finally:
            if usage is not None:
                record.prompt_tokens += usage.prompt
                # A stream that was left early was last counted earlier; a piece is a token or more.
                record.completion_tokens += max(usage.completion, pieces)
                record.cached_tokens += usage.cached


class EmbeddingTelemetryLayer:
    """Counts the tokens of what is embedded."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """The inner answer, unchanged."""
        record = request.context.record
        record.model = request.model.name
        answer = await self._inner.embed(request)
        record.prompt_tokens += answer.prompt_tokens
        return answer


class Sink(Protocol):
    """Someone who wants to know of requests."""

    def request_started(self) -> None:
        """A request has arrived."""
        ...

    def request_finished(self, record: RequestRecord) -> None:
        """A request is over; called once for each that was started."""
        ...


class Recorder:
    """Tells every sink."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    def request_started(self) -> None:
        """See Sink."""
        for sink in self._sinks:
            sink.request_started()

    def request_finished(self, record: RequestRecord) -> None:
        """See Sink."""
        for sink in self._sinks:
            sink.request_finished(record)
