"""The innermost embedder: one request to one engine, its answer as vectors."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from maxgate.generation.backend import Embedder, EmbeddingRequest, Embeddings, Vector
from maxgate.upstream.max_api import embeddings as embedding_wire
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import EngineCall
from maxgate.upstream.settings import UpstreamSettings


class UpstreamEmbedder:
    """Sends prompts to engines over HTTP, all in one call.

    Does not count tokens, since MAX does not. Raises what `ReplicaPool.ask` raises, and
    UpstreamError if the response does not contain the requested vectors.
    """

    def __init__(self, engines: ReplicaPool) -> None:
        self._engines = engines

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """The vectors of the first engine that answers."""
        model = request.model
        content = embedding_wire.body(model.engine_name, request.prompts)
        call = EngineCall(model.engine_name, embedding_wire.PATH, content)
        async with await self._engines.ask(call) as answer:
            data = await answer.content()
        vectors = embedding_wire.read_answer(
            data, count=len(request.prompts), dimensions=model.dimensions
        )
        return Embeddings(vectors, prompt_tokens=0)


class BatchingLayer:
    """Splits requests with more than `embedding_batch_size` inputs.

    At most `embedding_concurrency` calls of a request run at once; one that fails ends the others
    before its error is passed on. Inputs of like length go together: an engine fills a batch up to
    its longest input, and works on what it fills up with.
    """

    def __init__(self, inner: Embedder, settings: UpstreamSettings) -> None:
        self._inner = inner
        self._size = settings.embedding_batch_size
        self._concurrency = settings.embedding_concurrency

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """The inner vectors, in the order of the inputs."""
        prompts = request.prompts
        if len(prompts) <= self._size:
            return await self._inner.embed(request)
        order = sorted(range(len(prompts)), key=lambda index: prompts[index].length)
        batches = (order[i : i + self._size] for i in range(0, len(order), self._size))
        vectors: dict[int, Vector] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(self._work(request, batches, vectors))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return Embeddings(tuple([vectors[i] for i in range(len(prompts))]), prompt_tokens=0)

    async def _work(
        self, request: EmbeddingRequest, batches: Iterator[list[int]], vectors: dict[int, Vector]
    ) -> None:
        for batch in batches:
            part = replace(
                request,
                inputs=[request.inputs[index] for index in batch],
                prompts=tuple([request.prompts[index] for index in batch]),
            )
            answer = await self._inner.embed(part)
            vectors.update(zip(batch, answer.vectors, strict=True))
