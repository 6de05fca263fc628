"""The backend that takes the place of the normal one while a canary runs.

Clients never wait for a copy: it is sent after their response has ended. Copies are bounded in
number and time, and have a pool of engines and a connection pool of their own, so that they count
in no breaker, retry budget or metric of the normal traffic.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Final

import structlog
from typing_extensions import override

from maxgate.api.admin.canary import NewCanary
from maxgate.canary.samples import ResponseRecorder, Sample, compare
from maxgate.clock import SystemClock
from maxgate.errors import GatewayError
from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk
from maxgate.generation.context import RequestContext, RetryAllowance
from maxgate.generation.guard import Guard, NoGuard
from maxgate.generation.request import GenerationRequest
from maxgate.generation.request_record import RequestRecord
from maxgate.upstream.replica import Replica

MAX_COPIES: Final = 16
"""Copies at once per worker; further requests are skipped as `busy`."""
_MIN_TIMEOUT: Final = 30.0
_TIMEOUT_FACTOR: Final = 5.0
# A client that waits longer for its first token gets a normal engine.
_FIRST_TOKEN_TIMEOUT: Final = 10.0
# Failures in a row after which an engine gets no more requests of clients.
_MAX_FAILURES: Final = 5

MeasureGap = Callable[[GenerationRequest, list[int], str | None], Awaitable[float | None]]

_log = structlog.get_logger("canary")


class Diversion(Backend):
    """Serves each request from the normal backend or the new engine, and compares the two.

    `replica` is the new engine, and `new` a backend that sends to it alone. `measure_gap` returns
    the difference of the log probabilities of the two likeliest tokens after a request's prompt and
    the given ids; it also gets the URL of the normal engine.
    """

    def __init__(
        self,
        canary: NewCanary,
        replica: Replica,
        normal: Backend,
        new: Backend,
        measure_gap: MeasureGap,
        limits: Guard | None = None,
    ) -> None:
        self._limits = limits or NoGuard()
        self._canary = canary
        self._replica = replica
        self._normal = normal
        self._new = new
        self._measure_gap = measure_gap
        self._time = SystemClock.monotonic  # uvloop's time has a resolution of 1 ms
        self._copies: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._random = random.Random()  # noqa: S311  # no secret
        self.halted = False
        self.seen = 0
        self.skipped: Counter[str] = Counter()
        self.samples: list[Sample] = []

    @property
    def in_progress(self) -> int:
        """Number of copies that have not ended."""
        return len(self._copies)

    async def aclose(self) -> None:
        """Cancel all copies."""
        for copy in self._copies:
            copy.cancel()
        if self._copies:
            await asyncio.wait(self._copies)

    @override
    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        self.seen += 1
        reason = self._find_obstacle(request)
        if reason is not None:
            self.skipped[reason] += 1
            return self._normal.stream(request)
        drawn, share = 100 * self._random.random(), self._canary.share
        if self._canary.mirror:
            return self._record(request) if drawn < share else self._normal.stream(request)
        if drawn < share and not self.halted:
            return self._serve(request)
        # As many requests at the normal engines, to compare with.
        return self._observe(request) if drawn < 2 * share else self._normal.stream(request)

    def _find_obstacle(self, request: GenerationRequest) -> str | None:
        """Return the reason why the request cannot be compared, if there is one."""
        sampling = request.sampling
        if not self._replica.models:
            return "engine_not_ready"
        if request.model.engine_name not in self._replica.models:
            return "other_model"
        if request.grammar or request.prompt_logprobs or sampling.logprobs is not None:
            return "grammar_or_logprobs"
        if not self._canary.mirror:
            return None
        if request.prompt_token_ids is None:
            return "no_token_ids"
        return None if sampling.temperature == 0 or sampling.top_k == 1 else "not_greedy"

    async def _record(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Serve a request from the normal backend, then send a copy to the new engine."""
        record = request.context.record
        calls, old = record.engine_calls, ResponseRecorder(self._time, stream=request.stream)
        failed, fans_out = False, request.context.fans_out
        try:
            chunks = self._normal.stream(request._replace(with_token_ids=True))
            async with aclosing(chunks):
                async for chunk in chunks:
                    old.add(chunk)
                    yield chunk
        except (GatewayError, asyncio.CancelledError):
            failed = True
            raise
        finally:
            was_left = old.finish_reason is None
            if failed or request.context.cancelled_at is not None or (was_left and not old.ids):
                self.skipped["no_response"] += 1
            elif record.continuations or (record.engine_calls > calls + 1 and not fans_out):
                self.skipped["several_engines"] += 1
            elif len(self._copies) >= MAX_COPIES:
                self.skipped["busy"] += 1
            else:
                copy = asyncio.create_task(self._compare(request, old))
                self._copies.add(copy)
                copy.add_done_callback(self._copies.discard)

    async def _compare(self, request: GenerationRequest, old: ResponseRecorder) -> None:
        """Send a copy to the new engine and compare the responses; raises nothing."""
        timeout = max(_MIN_TIMEOUT, _TIMEOUT_FACTOR * old.duration)
        new = ResponseRecorder(self._time, stream=request.stream)
        try:
            async with asyncio.timeout(timeout):
                async with aclosing(self._new.stream(_copy(request, old))) as chunks:
                    async for chunk in chunks:
                        new.add(chunk)
            self.samples.append(await self._build_sample(request, old, new))
        except GatewayError as error:
            self.samples.append(Sample(error=error.code or type(error).__name__))
        except TimeoutError:
            self.samples.append(Sample(error="timeout"))
        except Exception as error:  # noqa: BLE001  # a bug must not become a lost task
            self.skipped["internal_error"] += 1
            _log.error("comparison of a canary failed", error=repr(error))

    async def _build_sample(
        self, request: GenerationRequest, old: ResponseRecorder, new: ResponseRecorder
    ) -> Sample:
        prefix, divergence = compare(old, new)
        gap = None
        if divergence is not None and old.ids and new.ids:
            engine = request.context.record.engine
            gap = await self._measure_gap(request, old.ids[:divergence], engine)
        return Sample(old=old.times, new=new.times, prefix=prefix, divergence=divergence, gap=gap)

    async def _observe(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Serve a request from the normal backend, and keep its times."""
        response = ResponseRecorder(self._time, stream=request.stream)
        async with aclosing(self._normal.stream(request)) as chunks:
            async for chunk in chunks:
                response.add(chunk)
                yield chunk
        self.samples.append(Sample(old=response.times))

    async def _serve(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Serve a request from the new engine; from the normal ones if that gives no token."""
        response = ResponseRecorder(self._time, stream=request.stream)
        async with self._limits.admit(request):  # before the context is copied
            pass
        # A retry at the new engine must not be missing for the normal ones.
        context = replace(request.context, retries=RetryAllowance(remaining=1))
        begun, cause = False, "timeout"
        try:
            async with aclosing(self._new.stream(request._replace(context=context))) as chunks:
                async with asyncio.timeout(_FIRST_TOKEN_TIMEOUT if request.stream else None):
                    first = await anext(chunks)
                begun = True
                response.add(first)
                yield first
                async for chunk in chunks:
                    response.add(chunk)
                    yield chunk
        except (GatewayError, TimeoutError) as error:
            cause = getattr(error, "code", None) or "timeout"
            if begun:
                self._count_failure(cause)
                raise
        else:
            self._failures = 0
            self.samples.append(Sample(new=response.times))
            return
        async with aclosing(self._normal.stream(request)) as chunks:
            counted = False
            async for chunk in chunks:
                if not counted:  # otherwise the request itself is to blame
                    self._count_failure(cause)
                    counted = True
                yield chunk

    def _count_failure(self, cause: str) -> None:
        self.samples.append(Sample(error=cause))
        self._failures += 1
        if self._failures >= _MAX_FAILURES and not self.halted:
            self.halted = True
            _log.warning("the canary gets no more requests", engine=self._replica.url, cause=cause)


def _copy(request: GenerationRequest, old: ResponseRecorder) -> GenerationRequest:
    """Return a request for the same response, which belongs to no client."""
    record = request.context.record
    fresh = RequestRecord(record.request_id, record.method, record.route, started_at=0.0)
    context = RequestContext(fresh, retries=RetryAllowance(remaining=1))
    sampling = request.sampling
    if old.finish_reason is None:  # left at a stop string
        sampling = sampling._replace(max_tokens=len(old.ids))
    return request._replace(context=context, sampling=sampling, with_token_ids=True)
