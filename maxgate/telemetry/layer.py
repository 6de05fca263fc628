"""Telemetry layers fill in the request record; sinks receive it when the request has finished."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from maxgate.clock import Clock
from maxgate.generation.backend import Backend, Embedder, EmbeddingRequest, Embeddings
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.request import GenerationRequest


class TelemetryLayer:
    """Records times and token counts of a stream, however it ends."""

    def __init__(self, inner: Backend, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Stream from the inner backend, unchanged."""
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
        except (asyncio.CancelledError, GeneratorExit):
            if usage is None and record.engine_calls:  # the engine has read the prompt
                record.prompt_tokens += record.sent_tokens
            raise
        finally:
            if usage is not None:
                record.prompt_tokens += usage.prompt
                # The usage of a stream closed early may lag behind; each piece is at least a token.
                record.completion_tokens += max(usage.completion, pieces)
                record.cached_tokens += usage.cached


class EmbeddingTelemetryLayer:
    """Records the token count of embedded inputs."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Call the inner embedder."""
        record = request.context.record
        record.model = request.model.name
        try:
            embeddings = await self._inner.embed(request)
        except asyncio.CancelledError:
            record.prompt_tokens += record.sent_tokens
            raise
        record.prompt_tokens += embeddings.prompt_tokens
        return embeddings
