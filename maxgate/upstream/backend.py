"""The innermost backend: calls to engines until the response is complete, as chunks."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from time import monotonic

from maxgate.errors import GatewayError
from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk
from maxgate.generation.context import RequestContext
from maxgate.generation.guard import Guard, NoGuard
from maxgate.generation.request import GenerationRequest
from maxgate.upstream.attempts import Attempts
from maxgate.upstream.continuation import Continuation, can_continue
from maxgate.upstream.max_api.generation import (
    ChunkReader,
    limit_tokens,
    parse_response,
    select_path,
    serialize_request,
)
from maxgate.upstream.pool import EngineCall, ReplicaPool
from maxgate.upstream.routing.policy import RoutingKey
from maxgate.upstream.token_timeout import TokenTimeout


class UpstreamBackend:
    """Sends requests to the engines of a pool.

    A request moves to another engine until its first token has arrived. After that, a stream that
    can be continued exactly goes on at another engine. A response that has its finish reason is
    complete, whatever happens to its connection afterwards. At most `max_calls_per_request` calls
    of a client request run at once; the others wait for their turn, without a timeout.

    `diversion`, while it is set, serves the requests instead: a canary.

    Raises the errors of `Attempt.open`, and UpstreamError if a response is incomplete or
    invalid.
    """

    def __init__(self, pool: ReplicaPool, guard: Guard | None = None) -> None:
        """`guard` admits each request; a layer of its own would cost time per chunk."""
        self._pool = pool
        self.guard = guard or NoGuard()
        self.diversion: Backend | None = None

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Yield the chunks of a streamed response, or one chunk otherwise; see Backend."""
        if self.diversion is not None:
            return self.diversion.stream(request)
        chunks = self._stream(request) if request.stream else self._fetch(request)
        return self._in_turn(request.context, chunks) if request.context.fans_out else chunks

    async def _fetch(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        call, parse = _build_call(request), partial(parse_response, request=request)
        async with self.guard.admit(request) as lease:
            started_at = monotonic()
            try:
                chunk = await Attempts(self._pool, call).fetch(parse)
            finally:
                request.context.record.engine_seconds += monotonic() - started_at
            if chunk.usage is not None:
                lease.settle(chunk.usage)
        yield chunk

    async def _stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        continuation = self._keep_tokens(request)
        call = _build_call(request, with_ids=continuation is not None)
        async with self.guard.admit(request) as lease:
            attempts = Attempts(self._pool, call)
            if continuation is not None:
                attempts.resume = _Resume(attempts, continuation)
            started_at = monotonic()
            try:
                async for attempt in attempts:
                    with attempt:
                        timeout = TokenTimeout(self._pool.settings)
                        reader = ChunkReader(request, continuation, lease)
                        async with await attempt.open() as response:
                            timeout.start(response)
                            # Read past [DONE] to the end, or the connection cannot be reused.
                            with reader:
                                async for data in response:
                                    for chunk in reader.feed(data):
                                        if not attempt.has_first_token and reader.progress:
                                            attempt.note_first_token(reader)
                                        yield chunk
                                    timeout.after_read(response, reader)
                        reader.check_finished()
                        if not reader.usage_reported:
                            yield Chunk(usage=reader.usage_so_far)
                        return
            finally:
                request.context.record.engine_seconds += monotonic() - started_at
            if continuation is not None:  # all tokens had arrived
                yield Chunk("", "length", continuation.usage)

    async def _in_turn(
        self, context: RequestContext, chunks: AsyncGenerator[Chunk]
    ) -> AsyncGenerator[Chunk]:
        """Bound the concurrent calls of a client request; it may have 128 choices and prompts."""
        if context.engine_calls is None:
            settings = self._pool.settings
            # A request that needs more than all connections could never succeed.
            limit = min(settings.max_calls_per_request, settings.max_connections)
            context.engine_calls = asyncio.Semaphore(limit)
        async with context.engine_calls, aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def _keep_tokens(self, request: GenerationRequest) -> Continuation | None:
        settings = self._pool.failover.continuation
        if not settings.attempts or not can_continue(request):
            return None
        if len(self._pool.replicas) == 1 and not settings.restart_window:
            return None
        return Continuation(request, limit_tokens(request), settings.attempts)


class _Resume:
    """Moves a call to the rest of its response; see Attempts.resume."""

    def __init__(self, attempts: Attempts, continuation: Continuation) -> None:
        self._attempts = attempts
        self._continuation = continuation

    def __call__(self, error: GatewayError) -> bool:
        attempts = self._attempts
        request = self._continuation.resume(error)
        if request is None:
            attempts.is_complete = self._continuation.is_complete
            return attempts.is_complete
        request.context.record.continuations += 1
        attempts.call = _build_call(request, with_ids=True)
        return True


def _build_call(request: GenerationRequest, *, with_ids: bool = False) -> EngineCall:
    model, prompt, max_tokens = request.model, request.prompt_token_ids, limit_tokens(request)
    length = 0
    if prompt is not None:
        length = prompt.length
        record = request.context.record
        record.sent_tokens = record.sent_tokens or length  # of the first call
        length += request.sampling.max_tokens or 1
    return EngineCall(
        RoutingKey(model.engine_name, prompt, request.context.session),
        select_path(request),
        serialize_request(request, with_ids=with_ids),
        request.context,
        request.stream,
        length,
        max_tokens,
    )
