"""The pool of replicas: choose one for each attempt, feed its breaker, move failed calls on."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

import structlog

from maxgate.errors import (
    GatewayError,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from maxgate.generation.chunk import Chunk
from maxgate.generation.context import RequestContext
from maxgate.generation.errors import ContextLengthExceeded
from maxgate.upstream.breaker import CircuitBreaker
from maxgate.upstream.client import EngineClient
from maxgate.upstream.errors import (
    EngineUnreachable,
    engine_timeout,
    no_engine_ready,
)
from maxgate.upstream.http1.connection import EngineResponse
from maxgate.upstream.http1.messages import EngineRequest, resolve_route
from maxgate.upstream.overdue import OverdueTimer
from maxgate.upstream.refusal import read_refusal
from maxgate.upstream.replica import Replica
from maxgate.upstream.routing.policy import LeastLoaded, RoutingKey, RoutingPolicy
from maxgate.upstream.settings import FailoverSettings, UpstreamSettings
from maxgate.upstream.traffic import ModelTraffic

# Interval of the search for a replica that continues a response.
_POLL_SECONDS: Final = 0.2
_RETRYABLE: Final = (UpstreamError, UpstreamOverloaded, UpstreamTimeout, UpstreamUnavailable)

T = TypeVar("T")

_log = structlog.get_logger()


class EngineCall(NamedTuple):
    """A request to any replica that serves the model of `key`.

    `stream` selects the timeouts. `length` counts the tokens that must fit into the replica's
    context; `max_tokens` limits the response, None means unknown.
    """

    key: RoutingKey
    path: str
    body: bytes
    context: RequestContext
    stream: bool = False
    length: int = 0
    max_tokens: int | None = None


class ReplicaPool:
    """Sends calls to replicas over HTTP, and moves calls that failed to other replicas."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        client: EngineClient,
        settings: UpstreamSettings,
        failover: FailoverSettings | None = None,
        policy: RoutingPolicy | None = None,
    ) -> None:
        self.replicas = replicas
        self.settings = settings
        self.failover = failover or FailoverSettings()
        self._client = client
        self._policy = policy or LeastLoaded()
        self._traffic: dict[str, ModelTraffic] = {}

    def traffic(self, model: str) -> ModelTraffic:
        """Return the observations of a model."""
        traffic = self._traffic.get(model)
        if traffic is None:
            traffic = self._traffic[model] = ModelTraffic(self.failover)
        return traffic

    async def run(self) -> None:
        """Keep the retry budgets up to date until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1)
            for traffic in self._traffic.values():
                traffic.budget.tick(loop.time())

    async def fetch(self, call: EngineCall, parse: Callable[[bytes], T]) -> T:
        """Return the parsed body of a response that is not streamed.

        Raises the errors of `send` and of `parse`, and UpstreamError above `max_response_bytes`.
        """
        async for attempt in Attempts(self, call):
            with attempt:
                response = parse(await attempt.fetch())
                attempt.note_response(response)
                return response
        raise no_engine_ready()  # not reached: the last attempt raises

    async def send(self, replica: Replica, call: EngineCall) -> EngineResponse:
        """Return the response, with status 200, of the replica; close it.

        Raises UpstreamUnavailable, UpstreamOverloaded, UpstreamTimeout, UpstreamError,
        OutOfResources, and InvalidRequest for errors that only the engine could detect.
        """
        settings, record = self.settings, call.context.record
        record.engine = replica.url
        record.engine_calls += 1
        if call.stream:
            head_timeout, read_timeout = settings.first_token_timeout, settings.idle_timeout
        else:
            head_timeout = read_timeout = settings.response_timeout
        route = resolve_route(replica.target, call.path)
        response = await self._client.send(
            EngineRequest(route, call.body, settings.connect_timeout, head_timeout, read_timeout)
        )
        response.activity = replica.activity
        if response.status < 500:
            replica.activity.at = asyncio.get_running_loop().time()
        if response.status != 200:
            raise await read_refusal(response, replica.url, record.request_id)
        return response

    async def read(self, replica: Replica, call: EngineCall) -> bytes:
        """Return the whole body of the replica's response; see fetch."""
        deadline = asyncio.get_running_loop().time() + self.settings.response_timeout
        async with await self.send(replica, call) as response:
            return await response.read(self.settings.max_response_bytes, deadline)

    def choose(
        self, call: EngineCall, now: float, *, exclude: Sequence[Replica] = (), panic: bool = True
    ) -> Replica | None:
        """Return the replica for a call, or None.

        Without a replica whose breaker lets requests through, `panic` sends them all the same:
        a breaker cannot tell a broken engine from a broken gateway.
        """
        replicas = self.replicas
        model = call.key.model
        usable = [
            replica
            for replica in replicas
            if replica.state != "unreachable"
            and not replica.draining
            and (model in replica.models or replica.state == "unknown")
            and replica not in exclude
        ]
        if len(replicas) == 1 or not usable:
            return usable[0] if usable else None
        traffic, length = self.traffic(model), call.length
        fitting = [replica for replica in usable if replica.fits(model, length)]
        usable = fitting or usable
        allowed = [r for r in usable if traffic.breaker(r).allows(now) and not r.is_saturated]
        if allowed:
            usable = allowed
        elif not panic:
            return None
        probed = [replica for replica in usable if replica.state == "healthy"] or usable
        return probed[0] if len(probed) == 1 else self._policy.choose(probed, call.key)


class Attempts:
    """The attempts at one call: the first one, then others after failures that allow it.

    A retry is taken from the request's allowance and from the retry budget of the model. Use each
    attempt as a context manager: it suppresses the errors after which another attempt follows.

    `resume`, if set, decides about failures after the first token: it changes `call` and returns
    True if another replica may go on, and sets `is_complete` if nothing is left to generate. The
    next attempt then waits up to `restart_window` seconds for a replica. `first_error` is that of
    the first engine that failed after a token.
    """

    def __init__(self, pool: ReplicaPool, call: EngineCall) -> None:
        self.pool = pool
        self.call = call
        self.is_complete = False
        self.resume: Callable[[GatewayError], bool] | None = None
        self._loop = asyncio.get_running_loop()
        self._excluded: list[Replica] = []
        self._next: Replica | None = None
        self.first_error: GatewayError | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> "Attempt":
        """Return the next attempt; raises UpstreamUnavailable without a replica."""
        if self.is_complete:
            raise StopAsyncIteration
        replica, self._next = self._next, None
        if replica is None:
            if self.first_error is None:
                self._count_request()
                replica = self.pool.choose(self.call, self._loop.time())
            else:
                replica = await self._wait_for_replica()
            if replica is None:
                raise self.first_error or no_engine_ready()
        return Attempt(self, replica)

    def may_retry(self, failed: Replica, error: GatewayError) -> bool:
        """Whether another attempt may follow a failure before the first token; takes the retry."""
        if self._next is not None:
            return True
        pool, call = self.pool, self.call
        if isinstance(error, _RETRYABLE):
            stale = isinstance(error, EngineUnreachable) and error.failure == "stale"
            # Stale connections say nothing about the replica. With no other replica, an engine
            # that restarts gets another chance.
            if isinstance(error, EngineUnreachable) and not error.is_connect_failure:
                stale = stale or len(pool.replicas) == 1
            replica = failed if stale else self._choose_other(failed)
        elif error.code == ContextLengthExceeded.default_code:
            replica = self._choose_longer_context(failed)
        else:
            return False
        if (
            replica is None
            or not call.context.retries.take()
            or not pool.traffic(call.key.model).budget.take(self._loop.time())
        ):
            return False
        self._next = replica
        return True

    def may_continue(self, failed: Replica, error: GatewayError) -> bool:
        """Whether another attempt may follow a failure after the first token."""
        if self.resume is None or not self.resume(error):
            return False
        self.first_error = self.first_error or error
        self._next = self._choose_other(failed)
        return True

    def _count_request(self) -> None:
        budget = self.pool.traffic(self.call.key.model).budget
        if self.call.context.is_client_retry:
            budget.client_retries += 1
        else:
            budget.requests += 1

    def _choose_other(self, failed: Replica) -> Replica | None:
        if failed not in self._excluded:
            self._excluded.append(failed)
        now = self._loop.time()
        return self.pool.choose(self.call, now, exclude=self._excluded, panic=False)

    def _choose_longer_context(self, failed: Replica) -> Replica | None:
        model = self.call.key.model
        limit = failed.context_length(model)
        shorter = [r for r in self.pool.replicas if r.context_length(model) <= limit]
        self._excluded = shorter
        return self._choose_other(failed)

    async def _wait_for_replica(self) -> Replica | None:
        """Wait for a replica that continues a response; also one that comes back."""
        until = self._loop.time() + self.pool.failover.continuation.restart_window
        while (now := self._loop.time()) < until:
            if (replica := self.pool.choose(self.call, now, panic=False)) is not None:
                return replica
            await asyncio.sleep(_POLL_SECONDS)
        return None


class Attempt:
    """One try of a call at one replica; its outcome is recorded when the context ends."""

    __slots__ = (
        "_attempts",
        "_breaker",
        "_timer",
        "_traffic",
        "has_first_token",
        "replica",
        "started_at",
    )

    def __init__(self, attempts: Attempts, replica: Replica) -> None:
        self._attempts = attempts
        self.replica = replica
        self.started_at = 0.0
        self.has_first_token = False
        self._timer: OverdueTimer | None = None
        # With a single replica there is no choice that a breaker could improve.
        self._breaker: CircuitBreaker | None = None
        self._traffic: ModelTraffic | None = None

    def __enter__(self) -> Self:
        self.replica.in_flight += 1
        attempts = self._attempts
        pool = attempts.pool
        if len(pool.replicas) > 1:
            self.started_at = now = asyncio.get_running_loop().time()
            self._traffic = pool.traffic(attempts.call.key.model)
            self._breaker = self._traffic.breaker(self.replica)
            self._breaker.begin(now)
            call, slowness = attempts.call, pool.failover.slowness
            wait = self._traffic.latency.max_wait(now, stream=call.stream, tokens=call.max_tokens)
            if wait is not None:
                self._timer = OverdueTimer(
                    max(wait, slowness.min_deadline),
                    lambda: attempts.may_retry(self.replica, engine_timeout()),
                )
        return self

    async def open(self) -> EngineResponse:
        """Return the response, of which nothing has been read; see ReplicaPool.send."""
        attempts = self._attempts
        opening = attempts.pool.send(self.replica, attempts.call)
        if self._timer is None:
            return await opening
        response = await self._timer.wait(opening)
        self._timer.interrupt = response.interrupt
        return response

    async def fetch(self) -> bytes:
        """Return the whole body of a response that is not streamed; see ReplicaPool.fetch."""
        body = self._attempts.pool.read(self.replica, self._attempts.call)
        if self._timer is not None:
            return await self._timer.wait(body)
        return await body

    def note_response(self, response: object) -> None:
        """Record a response that was not streamed."""
        if self._traffic is not None and isinstance(response, Chunk) and response.usage is not None:
            now = asyncio.get_running_loop().time()
            self._add_latency(now, (now - self.started_at) / (response.usage.completion or 1))

    def note_first_token(self) -> None:
        """Record that the replica responds."""
        self.has_first_token = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._traffic is not None and self._breaker is not None:
            now = asyncio.get_running_loop().time()
            self._breaker.note_first_token(self.started_at)
            self._add_latency(now, now - self.started_at)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.replica.in_flight -= 1
        if self._timer is not None:
            self._timer.cancel()
        self._report(error)
        if not isinstance(error, GatewayError):
            return False
        attempts = self._attempts
        if not self.has_first_token and attempts.first_error is None:
            return attempts.may_retry(self.replica, error)
        if not attempts.may_continue(self.replica, error):
            raise attempts.first_error or error
        return True

    def _report(self, error: BaseException | None) -> None:
        replica, breaker = self.replica, self._breaker
        if isinstance(error, EngineUnreachable) and error.is_connect_failure:
            if error.failure == "connect_timeout":
                replica.mark_connect_timeout(error.message, asyncio.get_running_loop().time())
            else:
                replica.mark_unreachable(error.message)
        if breaker is None:
            return
        now = asyncio.get_running_loop().time()
        breaker.record(error, now, self.started_at, closed=self.has_first_token)
        if breaker.opened_at == now:
            _log.warning(
                "engine gets no requests for now",
                engine=replica.url,
                model=self._attempts.call.key.model,
                cause=breaker.cause,
            )

    def _add_latency(self, now: float, seconds: float) -> None:
        traffic, attempts = self._traffic, self._attempts
        if traffic is not None:
            stream = attempts.call.stream
            traffic.latency.add(self.replica.url, now, seconds, stream=stream)
            traffic.eject_if_slow(self.replica, len(attempts.pool.replicas), now, stream=stream)
