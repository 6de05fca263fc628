"""Guards admit a request before the engine is called and settle its usage afterwards.

Limits, budgets and admission are guards: each is written once and wrapped around both seams,
`Backend` and `Embedder`.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Protocol, Self

from maxgate.generation.backend import Backend, Embedder, EmbeddingRequest, Embeddings
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.request import GenerationRequest


class Lease(Protocol):
    """Resources held for one request."""

    def settle(self, usage: Usage) -> None:
        """Report the usage so far; the last report before the lease ends is final."""
        ...


class Guard(Protocol):
    """Admits requests.

    The lease ends exactly once: when the response finishes, fails, is closed early or is
    cancelled. Without a settlement, the whole reservation is released.
    """

    def admit(
        self, request: GenerationRequest | EmbeddingRequest
    ) -> AbstractAsyncContextManager[Lease]:
        """Wait for admission. Entering raises GatewayError if the request is refused."""
        ...


class NoGuard:
    """Admits everything, and settles nothing."""

    def admit(self, request: GenerationRequest | EmbeddingRequest) -> Self:
        """Return itself; see Guard."""
        del request
        return self

    def settle(self, usage: Usage) -> None:
        """Do nothing; see Lease."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do nothing."""


class GuardLayer:
    """A guard around a Backend."""

    def __init__(self, inner: Backend, guard: Guard) -> None:
        self._inner = inner
        self._guard = guard

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Stream from the inner backend while holding a lease."""
        async with (
            self._guard.admit(request) as lease,
            aclosing(self._inner.stream(request)) as chunks,
        ):
            async for chunk in chunks:
                if chunk.usage is not None:
                    lease.settle(chunk.usage)
                yield chunk


class EmbeddingGuardLayer:
    """A guard around an Embedder."""

    def __init__(self, inner: Embedder, guard: Guard) -> None:
        self._inner = inner
        self._guard = guard

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Call the inner embedder while holding a lease."""
        async with self._guard.admit(request) as lease:
            embeddings = await self._inner.embed(request)
            lease.settle(Usage(embeddings.prompt_tokens, 0))
            return embeddings
