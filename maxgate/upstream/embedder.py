"""The innermost embedder, and the layer that splits large requests into small calls."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from time import monotonic

from maxgate.generation.backend import Embedder, EmbeddingRequest, Embeddings, Vector
from maxgate.upstream.attempts import Attempts
from maxgate.upstream.max_api import embeddings as max_embeddings
from maxgate.upstream.pool import EngineCall, ReplicaPool
from maxgate.upstream.routing.policy import RoutingKey
from maxgate.upstream.settings import UpstreamSettings


class UpstreamEmbedder:
    """Sends all prompts of a request to an engine in one call.

    Does not count tokens, since MAX does not. Raises the errors of `Attempts.fetch`, and
    UpstreamError if the response does not contain the requested vectors.
    """

    def __init__(self, pool: ReplicaPool) -> None:
        self._pool = pool

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return the vectors of all prompts; see Embedder."""
        name, prompts = request.model.engine_name, request.prompts
        body = max_embeddings.serialize_request(name, prompts)
        call = EngineCall(RoutingKey(name), max_embeddings.PATH, body, request.context)
        parse = partial(
            max_embeddings.parse_response,
            count=len(prompts),
            dimensions=request.model.dimensions,
        )
        request.context.record.sent_tokens += sum([prompt.length for prompt in prompts])
        started_at = monotonic()
        try:
            vectors = await Attempts(self._pool, call).fetch(parse)
        finally:
            request.context.record.engine_seconds += monotonic() - started_at
        return Embeddings(vectors, prompt_tokens=0)


class BatchingLayer:
    """Splits requests with more than `embedding_batch_size` inputs.

    At most `embedding_concurrency` calls of a request run at once; one that fails cancels the
    others before its error is raised. Inputs of similar length share a call, because an engine pads
    a batch to its longest input.
    """

    def __init__(self, inner: Embedder, settings: UpstreamSettings) -> None:
        self._inner = inner
        self._size = settings.embedding_batch_size
        self._concurrency = settings.embedding_concurrency

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return the inner embedder's vectors in the order of the inputs."""
        prompts = request.prompts
        if len(prompts) <= self._size:
            return await self._inner.embed(request)
        order = sorted(range(len(prompts)), key=lambda index: prompts[index].length)
        batches = (order[i : i + self._size] for i in range(0, len(order), self._size))
        vectors: dict[int, Vector] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(self._send_batches(request, batches, vectors))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return Embeddings(tuple([vectors[i] for i in range(len(prompts))]), prompt_tokens=0)

    async def _send_batches(
        self, request: EmbeddingRequest, batches: Iterator[list[int]], vectors: dict[int, Vector]
    ) -> None:
        for batch in batches:
            part = replace(
                request,
                inputs=[request.inputs[index] for index in batch],
                prompts=tuple([request.prompts[index] for index in batch]),
            )
            result = await self._inner.embed(part)
            vectors.update(zip(batch, result.vectors, strict=True))
