"""The attempts at one engine call: feed breakers, and move what failed to other replicas."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self, TypeVar

import structlog

from maxgate.errors import (
    GatewayError,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from maxgate.generation.chunk import Chunk
from maxgate.generation.errors import ContextLengthExceeded
from maxgate.generation.trace import AttemptReason, AttemptTrace
from maxgate.upstream.breaker import CircuitBreaker
from maxgate.upstream.errors import (
    ADMITTED_SECONDS,
    EngineDisconnected,
    EngineUnreachable,
    engine_timeout,
    is_disconnect,
    is_unsent,
    no_engine_ready,
)
from maxgate.upstream.http1.connection import EngineResponse
from maxgate.upstream.http1.messages import EngineRequest, resolve_route
from maxgate.upstream.latency import LatencyKind, StreamPace, TokenCounter
from maxgate.upstream.pool import EngineCall, ReplicaPool
from maxgate.upstream.refusal import read_refusal
from maxgate.upstream.replica import Replica
from maxgate.upstream.traffic import ModelTraffic

# Interval of the search for a replica that continues a response, and the time after which one
# whose breaker is open will do.
_POLL_SECONDS: Final = 0.2
_PANIC_SECONDS: Final = 2.0
_REQUEST_ID: Final = b"x-request-id"
_MAX_ID_BYTES: Final = 128
_RETRYABLE: Final = (UpstreamError, UpstreamOverloaded, UpstreamTimeout, UpstreamUnavailable)

T = TypeVar("T")

_log = structlog.get_logger("upstream")


class Attempts:
    """The attempts at one call: the first one, then others after failures that allow it.

    A retry is taken from the request's allowance and from the retry budget of the model, unless the
    attempt before it was sent to no engine. Use each attempt as a context manager: it suppresses
    the errors after which another attempt follows.

    `resume`, if set, decides about failures after the first token: it changes `call` and returns
    True if another replica may go on, and sets `is_complete` if nothing is left to generate. The
    next attempt then waits up to `restart_window` seconds for a replica, and so does a call that an
    engine worked on when it died. `first_error` is that of the engine whose failure began the wait.
    `has_begun` says whether an attempt has got a token.
    """

    # Most calls succeed at once, and never set these.
    is_complete = False
    resume: Callable[[GatewayError], bool] | None = None
    reason: AttemptReason = "call"
    first_error: GatewayError | None = None
    has_begun = False
    _next: Replica | None = None
    _excluded: Sequence[Replica] = ()
    _unproven: Mapping[Replica, int] = MappingProxyType({})
    _resume_at = 0.0
    _is_last_resort = False
    _was_lost = False

    def __init__(self, pool: ReplicaPool, call: EngineCall) -> None:
        self.pool = pool
        self.call = call
        self.traffic = pool.by_model.get(call.key.model) or pool.traffic(call.key.model)
        self.loop = asyncio.get_running_loop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> "Attempt":
        """Return the next attempt; raises UpstreamUnavailable without a replica."""
        if self.is_complete:
            raise StopAsyncIteration
        now = self.loop.time()
        replica, self._next = self._next, None
        if replica is None:
            if self.first_error is None:
                if self.call.context.is_client_retry:
                    self.traffic.budget.client_retries += 1
                else:
                    self.traffic.budget.requests += 1
                replica = self._choose_first(now)
            else:
                replica = await self._wait_for_replica()
                now = self.loop.time()
            if replica is None:
                raise self.first_error or no_engine_ready()
        return Attempt(self, replica, now)

    async def fetch(self, parse: Callable[[bytes], T]) -> T:
        """Return the parsed body of a response that is not streamed.

        Raises the errors of `Attempt.open` and of `parse`, and UpstreamError above
        `max_response_bytes`.
        """
        async for attempt in self:
            with attempt:
                response = parse(await attempt.fetch())
                if isinstance(response, Chunk) and response.usage is not None:
                    attempt.completion_tokens = response.usage.completion
                return response
        raise no_engine_ready()  # not reached: the last attempt raises

    def _choose_first(self, now: float) -> Replica | None:
        replicas = self.pool.replicas
        if len(replicas) == 1:
            [replica] = replicas
            if self.call.key.model in replica.serving:
                return replica
        return self.pool.choose(self.call, now)

    def note_lost(self, error: GatewayError, failed: Replica, started_at: float) -> None:
        """Note whether the last replica that got the call died while it worked on it.

        One of several replicas did so, too, if it was responding to others just before.
        """
        is_stale = isinstance(error, EngineUnreachable) and error.failure == "stale"
        if is_stale or is_unsent(error):
            return
        now = self.loop.time()
        was_working = len(self.pool.replicas) > 1 and now - failed.activity.at < ADMITTED_SECONDS
        self._was_lost = is_disconnect(error) and (
            was_working or now - started_at >= ADMITTED_SECONDS
        )

    def may_retry(self, failed: Replica, error: GatewayError) -> bool:
        """Whether another attempt may follow a failure before the first token; takes the retry."""
        if self._next is not None:
            # Chosen by `end_wait`, which took the retry; the replica may have left since.
            self._next = self._choose_other(failed, panic=True)
            return self._next is not None
        if isinstance(error, _RETRYABLE):
            # Stale connections say nothing about the replica. With no other replica, an engine
            # that restarts gets another chance.
            again = isinstance(error, EngineUnreachable) and (
                error.failure == "stale"
                or (len(self.pool.replicas) == 1 and not error.is_connect_failure)
            )
            is_leaving = failed.draining or failed not in self.pool.replicas
            if again and not is_leaving and not self._was_lost:
                replica: Replica | None = failed
            else:
                replica = self._choose_other(failed, panic=True)
        elif error.code == ContextLengthExceeded.default_code:
            replica = self._choose_longer_context(failed)
        else:
            return False
        if replica is None or not (is_unsent(error) or self._take_retry()):
            return False
        self._next = replica
        return True

    def _take_retry(self) -> bool:
        allowance, budget = self.call.context.retries, self.traffic.budget
        return (
            allowance.remaining > 0
            and budget.take(self.loop.time(), last_resort=self._is_last_resort)
            and allowance.take()
        )

    def may_wait(self, failed: Replica, error: GatewayError) -> bool:
        """Whether the call waits for a replica because one died while it worked on the call.

        This takes no retry: an engine may lose hundreds of calls at once, and each of them is sent
        again only to a replica that works.
        """
        if not self._was_lost or not isinstance(error, EngineUnreachable | EngineDisconnected):
            return False
        self.first_error = error
        self._unproven = {**self._unproven, failed: failed.probes}
        return True

    def may_continue(self, failed: Replica, error: GatewayError) -> bool:
        """Whether another attempt may follow a failure after the first token, or after a wait.

        Without a token, a replica must have died again while it worked on the call: in an outage,
        others fail at once, and would get each call several times.
        """
        may_resume = self.has_begun or self._was_lost
        if self.resume is None or not may_resume or not self.resume(error):
            return False
        self.first_error = self.first_error or error
        self._next = self._choose_other(failed, panic=False)
        if isinstance(error, EngineUnreachable):
            # Something in front of a dead engine may accept connections for it.
            self._unproven = {**self._unproven, failed: failed.probes}
        elif (
            isinstance(error, UpstreamOverloaded | UpstreamUnavailable)
            and len(self.pool.replicas) == 1  # otherwise, breakers pause
        ):
            self._resume_at = self.loop.time() + (error.retry_after or 0.0)
        return True

    def _choose_other(self, failed: Replica, *, panic: bool) -> Replica | None:
        if failed not in self._excluded:
            self._excluded = [*self._excluded, failed]
        choose, call, now = self.pool.choose, self.call, self.loop.time()
        replica = choose(call, now, exclude=self._excluded, panic=False)
        self._is_last_resort = replica is None
        if replica is None and panic:
            return choose(call, now, exclude=self._excluded)
        return replica

    def _choose_longer_context(self, failed: Replica) -> Replica | None:
        model = self.call.key.model
        limit = failed.context_length(model)
        shorter = [r for r in self.pool.replicas if r.context_length(model) <= limit]
        self._excluded = shorter
        return self._choose_other(failed, panic=True)

    async def _wait_for_replica(self) -> Replica | None:
        """Wait for a replica that continues a response; also one that comes back.

        Those that were unreachable must have been found healthy since.
        """
        began = self.loop.time()
        until = began + self.pool.failover.continuation.restart_window
        while (now := self.loop.time()) < until:
            unproven = [r for r, probes in self._unproven.items() if r.probes == probes]
            panic = now - began >= _PANIC_SECONDS
            replica = self.pool.choose(self.call, now, exclude=unproven, panic=panic)
            if replica is not None and now >= self._resume_at:
                return replica
            await asyncio.sleep(_POLL_SECONDS)
        return None


class Attempt:
    """One try of a call at one replica; its outcome is recorded when the context ends.

    `completion_tokens` is set for a complete response that was not streamed.
    """

    __slots__ = (
        "_attempts",
        "_breaker",
        "_overdue",
        "_pace",
        "_response",
        "_task",
        "_trace",
        "_traffic",
        "completion_tokens",
        "has_first_token",
        "kind",
        "replica",
        "started_at",
        "tokens",
    )

    def __init__(self, attempts: Attempts, replica: Replica, now: float) -> None:
        call = attempts.call
        self._attempts = attempts
        self.replica = replica
        self.kind: LatencyKind = "ttft" if call.stream else "tpot"
        self.tokens = 1 if call.stream else call.max_tokens or 0
        self.started_at = now
        self.has_first_token = False
        self.completion_tokens = 0
        # With a single replica there is no choice that these could improve.
        self._traffic: ModelTraffic | None = None
        self._breaker: CircuitBreaker | None = None
        self._response: EngineResponse | None = None
        self._task: asyncio.Task[Any] | None = None
        self._overdue = False
        self._pace: StreamPace | None = None
        self._trace: AttemptTrace | None = None

    def __enter__(self) -> Self:
        self.replica.in_flight += 1
        attempts = self._attempts
        if (trace := attempts.call.context.record.trace) is not None:
            call = attempts.call
            self._trace = trace.begin_attempt(
                self.replica.url, call.path, call.key.model, attempts.reason
            )
        if len(attempts.pool.replicas) > 1:
            self._traffic = traffic = attempts.traffic
            self._breaker = traffic.breaker(self.replica)
            if traffic.restricted:
                self._breaker.begin(self.started_at)
            self._task = asyncio.current_task(attempts.loop)
            traffic.waiting.add(self)
        return self

    async def open(self) -> EngineResponse:
        """Return the response, with status 200, of which nothing has been read; close it.

        Raises UpstreamUnavailable, UpstreamOverloaded, UpstreamTimeout, UpstreamError,
        OutOfResources, and InvalidRequest for errors that only the engine could detect.
        """
        self._response = response = await self._send()
        return response

    async def fetch(self) -> bytes:
        """Return the whole body of a response that is not streamed; raises the errors of `open`."""
        settings = self._attempts.pool.settings
        deadline = self._attempts.loop.time() + settings.response_timeout
        async with await self._send() as response:
            return await response.read(settings.max_response_bytes, deadline)

    async def _send(self) -> EngineResponse:
        replica, pool, call = self.replica, self._attempts.pool, self._attempts.call
        settings, record = pool.settings, call.context.record
        record.engine = replica.url
        record.engine_calls += 1
        if call.stream:
            head_timeout, read_timeout = settings.first_token_timeout, settings.idle_timeout
        else:
            head_timeout = read_timeout = settings.response_timeout
        route, trace = resolve_route(replica.target, call.path), self._trace
        request_id = (_REQUEST_ID, record.request_id.encode())
        response = await pool.client.send(
            EngineRequest(
                route,
                call.body,
                settings.connect_timeout,
                head_timeout,
                read_timeout,
                call.context,
                [request_id] if trace is None else [request_id, *trace.headers],
            )
        )
        response.activity = replica.activity
        for name, value in response.headers:
            if name.lower() == _REQUEST_ID:
                record.engine_request_id = value[:_MAX_ID_BYTES].decode("latin-1")
        if trace is not None:
            trace.status = response.status
        if response.status < 500:
            replica.activity.at = self._attempts.loop.time()
        if response.status != 200:
            raise await read_refusal(response, replica.url, record.request_id)
        return response

    def end_wait(self) -> None:
        """Move the call to another replica, if there is one and the retry is allowed."""
        task = self._task
        if self._overdue or task is None or task.cancelling():
            return
        if not self._attempts.may_retry(self.replica, engine_timeout()):
            return  # no other replica or no retry left: it is worth waiting on
        self._overdue = True
        if self._response is not None:
            self._response.interrupt()
        else:
            # Cancels: MAX must have read the request before its connection is closed (ADR 9).
            task.cancel()

    def note_first_token(self, counter: TokenCounter) -> None:
        """Record that the replica responds; `counter` counts the tokens of the stream."""
        self.has_first_token = True
        if self._trace is not None:
            self._trace.note_first_token()
        traffic, breaker, response = self._traffic, self._breaker, self._response
        if traffic is not None and breaker is not None and response is not None:
            traffic.waiting.discard(self)
            now = self._attempts.loop.time()
            if traffic.restricted:
                breaker.note_first_token(self.started_at)
            traffic.record_latency("ttft", self, now, now - self.started_at)
            self._pace = StreamPace(self, counter, response, now)
            traffic.streams.add(self._pace)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.replica.in_flight -= 1
        if error is None:
            self._report_success()
            return False
        return self._report_failure(error)

    def _report_failure(self, error: BaseException) -> bool:
        """Report an error; returns whether another attempt follows."""
        task = self._task
        if self._overdue and isinstance(error, asyncio.CancelledError) and task is not None:
            # As asyncio.timeout does: a cancellation from outside still counts.
            error = engine_timeout() if task.uncancel() == 0 else error
        if self._trace is not None:
            self._trace.finish(error)
        self._report(error)
        if not isinstance(error, GatewayError):
            return False
        attempts = self._attempts
        if self.has_first_token:
            attempts.has_begun = True
        else:
            attempts.note_lost(error, self.replica, self.started_at)
        if not self.has_first_token and attempts.first_error is None:
            attempts.reason = "retry"
            return attempts.may_retry(self.replica, error) or attempts.may_wait(self.replica, error)
        if not attempts.may_continue(self.replica, error):
            raise attempts.first_error or error
        attempts.reason = "continuation"
        return True

    def _report_success(self) -> None:
        if self._trace is not None:
            self._trace.finish(None)
        traffic, breaker = self._traffic, self._breaker
        if traffic is None or breaker is None:
            return
        now = self._attempts.loop.time()
        traffic.waiting.discard(self)
        if self._pace is not None:
            traffic.end_stream(self._pace, now, failed=False)
        if self.completion_tokens and (traffic.restricted or now >= traffic.next_sample):
            seconds = now - self.started_at
            traffic.add_duration(now, seconds)
            traffic.record_latency("tpot", self, now, seconds / self.completion_tokens)
        if traffic.restricted:
            breaker.succeed(now, self.started_at)
        else:
            breaker.successes += 1

    def _report(self, error: BaseException) -> None:
        replica, now = self.replica, self._attempts.loop.time()
        if isinstance(error, EngineUnreachable) and error.is_connect_failure:
            if error.failure == "connect_timeout":
                replica.mark_connect_timeout(error.message, now)
            else:
                replica.mark_unreachable(error.message)
        traffic, breaker = self._traffic, self._breaker
        if traffic is None or breaker is None:
            return
        traffic.waiting.discard(self)
        if self._pace is not None:
            traffic.end_stream(self._pace, now, failed=isinstance(error, GatewayError))
        breaker.record(error, now, self.started_at, closed=self.has_first_token)
        if breaker.is_restricted(now):
            traffic.restricted = True
            if breaker.opened_at == now:
                _log.warning(
                    "engine gets no requests for now",
                    engine=replica.url,
                    model=self._attempts.call.key.model,
                    cause=breaker.cause,
                )
