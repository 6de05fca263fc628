"""The pool chooses the least loaded replica and retries within the request's allowance."""

import asyncio
import itertools
import os
import resource
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Literal

import pytest

from maxgate.errors import GatewayError, OutOfResources, UpstreamError, UpstreamUnavailable
from maxgate.generation.context import MAX_RETRIES, RequestContext, RetryAllowance
from maxgate.upstream.attempts import Attempts
from maxgate.upstream.client import HttpxEngineClient
from maxgate.upstream.errors import (
    ConnectionsInUse,
    EngineDisconnected,
    EngineUnreachable,
    engine_timeout,
)
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.pool import EngineCall, ReplicaPool
from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.routing.policy import RoutingKey
from maxgate.upstream.settings import UpstreamSettings
from tests.fakes.raw_server import RawServer, serving_bytes
from tests.fakes.requests import request_context

MODELS = {"small": EngineModel("small", 1, 100)}
CLOSE = b""
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
REFUSING = "http://127.0.0.1:9"


class FirstReplica:
    """A policy that does not choose at random."""

    def choose(self, replicas: Sequence[Replica], key: RoutingKey) -> Replica:
        """Return the first replica."""
        del key
        return replicas[0]


def create_replica(state: str, in_flight: int = 0) -> Replica:
    """Return a replica in this state."""
    replica = Replica(f"http://{state}-{in_flight}")
    if state == "healthy":
        replica.mark_healthy(MODELS)
    elif state == "unreachable":
        replica.mark_unreachable("no connection")
    replica.in_flight = in_flight
    return replica


def choose(
    replicas: Sequence[Replica], model: str = "small", exclude: Sequence[Replica] = ()
) -> Replica | None:
    """Return the replica that a pool of these chooses."""
    pool = ReplicaPool(replicas, HttpxEngineClient(), UpstreamSettings())
    call = EngineCall(RoutingKey(model), "/v1/completions", b"{}", request_context())
    return pool.choose(call, now=0.0, exclude=exclude)


def test_least_loaded() -> None:
    """The healthy replica with the fewest requests in flight is chosen."""
    idle, busy = create_replica("healthy", 1), create_replica("healthy", 2)
    assert choose([busy, idle]) is idle


def test_weight() -> None:
    """A replica with twice the weight gets twice the requests."""
    large, small = Replica("http://large", weight=2), Replica("http://small")
    for replica in (large, small):
        replica.mark_healthy(MODELS)
    for _ in range(30):
        chosen = choose([large, small])
        assert chosen is not None
        chosen.in_flight += 1
    assert (large.in_flight, small.in_flight) == (20, 10)


def test_max_concurrency() -> None:
    """A replica at its limit is left out while others are below theirs."""
    limited, busy = Replica("http://limited", max_concurrency=1), create_replica("healthy", 9)
    limited.mark_healthy(MODELS)
    limited.in_flight = 1
    assert choose([limited, busy]) is busy


def test_idle_replicas_take_turns() -> None:
    """A replica with a limit gets its turn, too."""
    replicas = [Replica("http://limited", max_concurrency=9), create_replica("healthy")]
    replicas[0].mark_healthy(MODELS)
    pool = ReplicaPool(replicas, HttpxEngineClient(), UpstreamSettings())
    call = EngineCall(RoutingKey("small"), "/v1/completions", b"{}", request_context())
    chosen = [pool.choose(call, now=0.0) for _ in range(10)]
    assert [chosen.count(replica) for replica in replicas] == [5, 5]


@pytest.mark.parametrize("state", ["healthy", "unknown"])
def test_draining(state: str) -> None:
    """A replica that is drained gets no requests, even if it is the only one."""
    drained, busy = create_replica(state), create_replica("healthy", 9)
    drained.draining = True
    assert choose([drained, busy]) is busy
    assert choose([drained]) is None


def test_longer_context() -> None:
    """A request goes to a replica whose context has room for it, if there is one."""
    short, long = create_replica("healthy"), create_replica("healthy", 9)
    long.mark_healthy({"small": EngineModel("small", 1, 1000)})
    pool = ReplicaPool([short, long], HttpxEngineClient(), UpstreamSettings())
    call = EngineCall(RoutingKey("small"), "/v1/completions", b"{}", request_context(), length=101)
    assert pool.choose(call, now=0.0) is long
    assert pool.choose(call._replace(length=100), now=0.0) is short
    assert pool.choose(call._replace(length=9999), now=0.0) is short


def test_unknown_state() -> None:
    """A replica that has not been probed is the last choice."""
    unknown, busy = create_replica("unknown"), create_replica("healthy", 9)
    assert choose([unknown, busy]) is busy
    assert choose([unknown]) is unknown


def test_no_replica() -> None:
    """None is chosen if all are unreachable, excluded or without the model."""
    healthy = create_replica("healthy")
    assert choose([healthy], "other") is None
    assert choose([healthy], exclude=[healthy]) is None
    assert choose([create_replica("unreachable")]) is None


def test_panic() -> None:
    """With all breakers open, requests are sent all the same."""
    replicas = [create_replica("healthy"), create_replica("healthy", 1)]
    pool = ReplicaPool(replicas, HttpxEngineClient(), UpstreamSettings())
    call = EngineCall(RoutingKey("small"), "/v1/completions", b"{}", request_context())
    pool.traffic("small").restricted = True
    pool.traffic("small").breaker(replicas[0]).eject(0.0, "slow")
    assert pool.choose(call, now=1.0) is replicas[1]
    pool.traffic("small").breaker(replicas[1]).eject(0.0, "slow")
    assert pool.choose(call, now=1.0) is replicas[0]
    assert pool.choose(call, now=1.0, panic=False) is None


@asynccontextmanager
async def create_pool(urls: Sequence[str]) -> AsyncIterator[tuple[ReplicaPool, list[Replica]]]:
    """Yield a pool over real connections and its healthy replicas."""
    settings = UpstreamSettings()
    replicas = [Replica(url) for url in urls]
    for replica in replicas:
        replica.mark_healthy(MODELS)
    async with aclosing(EngineTransport(settings)) as transport:
        yield ReplicaPool(replicas, transport, settings, policy=FirstReplica()), replicas


async def send(pool: ReplicaPool, context: RequestContext) -> bytes:
    """Send a call and return the body of its response."""
    call = EngineCall(RoutingKey("small"), "/v1/completions", b"{}", context)
    return await Attempts(pool, call).fetch(bytes)


async def test_record() -> None:
    """The request record has the engine and its calls; the replica counts the open response."""
    server, context = RawServer([OK]), request_context()
    async with serving_bytes(server) as url, create_pool([url]) as (pool, [replica]):
        call = EngineCall(RoutingKey("small"), "/v1/completions", b"{}", context)
        async for attempt in Attempts(pool, call):
            with attempt:
                async with await attempt.open():
                    assert replica.in_flight == 1
                break
        assert replica.in_flight == 0
    assert (context.record.engine, context.record.engine_calls) == (url, 1)
    assert context.retries.remaining == MAX_RETRIES


async def test_retry_same_replica() -> None:
    """With a single replica, a call that is cut off before its response is sent to it again."""
    server, context = RawServer([CLOSE, OK]), request_context()
    async with serving_bytes(server) as url, create_pool([url]) as (pool, _):
        assert await send(pool, context) == b"{}"
    assert (server.requests, context.record.engine_calls) == (2, 2)
    assert context.retries.remaining == MAX_RETRIES - 1


async def test_allowance_bounds_calls() -> None:
    """An engine that always closes the connection is called once plus the allowance, in total."""
    server, context = RawServer([CLOSE] * 10), request_context()
    async with serving_bytes(server) as url, create_pool([url]) as (pool, [replica]):
        for _ in range(2):
            with pytest.raises(UpstreamUnavailable) as caught:
                await send(pool, context)
            assert caught.value.retry_after == 2
        assert (replica.state, replica.in_flight) == ("healthy", 0)
    # The second call of the same client request finds the allowance used up.
    assert server.requests == context.record.engine_calls == 1 + MAX_RETRIES + 1


async def test_stale_connection_uses_allowance() -> None:
    """A stale idle connection costs one retry, on a new connection to the same replica."""
    server, context = RawServer([OK, CLOSE, OK], keep_alive=True), request_context()
    async with serving_bytes(server) as url, create_pool([url, REFUSING]) as (pool, replicas):
        replicas[1].mark_unreachable("no connection")
        assert [await send(pool, context) for _ in range(2)] == [b"{}"] * 2
    assert (server.connections, server.requests) == (2, 3)
    assert context.retries.remaining == MAX_RETRIES - 1


async def test_stale_connection_without_allowance() -> None:
    """With the allowance used up, a stale connection is an error."""
    server, context = RawServer([OK, CLOSE, OK], keep_alive=True), request_context()
    context.retries.remaining = 0
    async with serving_bytes(server) as url, create_pool([url]) as (pool, _):
        await send(pool, context)
        with pytest.raises(UpstreamUnavailable):
            await send(pool, context)
    assert server.requests == 2


async def test_failover_when_disconnected() -> None:
    """A replica that closes the connection is not tried again if there is another one."""
    broken, working, context = RawServer([CLOSE] * 5), RawServer([OK]), request_context()
    async with (
        serving_bytes(broken) as first,
        serving_bytes(working) as second,
        create_pool([first, second]) as (pool, replicas),
    ):
        assert await send(pool, context) == b"{}"
        assert [replica.state for replica in replicas] == ["healthy", "healthy"]
    assert (broken.requests, working.requests, context.record.engine) == (1, 1, second)


async def test_failover_when_all_disconnect() -> None:
    """Each of several replicas is tried once."""
    servers, context = (RawServer([CLOSE] * 5), RawServer([CLOSE] * 5)), request_context()
    async with (
        serving_bytes(servers[0]) as first,
        serving_bytes(servers[1]) as second,
        create_pool([first, second]) as (pool, _),
    ):
        with pytest.raises(UpstreamUnavailable):
            await send(pool, context)
    assert [server.requests for server in servers] == [1, 1]


async def test_failover_when_refused() -> None:
    """A replica that refuses the connection becomes unreachable, and another one is called."""
    server, context = RawServer([OK]), request_context()
    async with serving_bytes(server) as url, create_pool([REFUSING, url]) as (pool, [gone, _]):
        assert await send(pool, context) == b"{}"
    assert (gone.state, gone.error) == ("unreachable", "The engine cannot be reached.")


async def test_retry_without_budget() -> None:
    """A retry that the budget refuses leaves the allowance of the request as it is."""
    context = request_context()
    async with create_pool([REFUSING, REFUSING]) as (pool, replicas):
        attempts = Attempts(pool, EngineCall(RoutingKey("small"), "/", b"{}", context))
        while pool.traffic("small").budget.take(asyncio.get_running_loop().time()):
            pass
        assert not attempts.may_retry(replicas[0], UpstreamUnavailable("failed"))
    assert context.retries.remaining == MAX_RETRIES


@pytest.mark.parametrize(
    "error",
    [EngineUnreachable("refused"), EngineUnreachable("connect_timeout"), ConnectionsInUse()],
)
async def test_unsent(error: GatewayError) -> None:
    """A request that no engine got moves without a retry, to each of the others once."""
    context = request_context()
    async with create_pool([REFUSING] * 6) as (pool, replicas):
        attempts = Attempts(pool, EngineCall(RoutingKey("small"), "/", b"{}", context))
        while pool.traffic("small").budget.take(asyncio.get_running_loop().time()):
            pass
        for failed, other in itertools.pairwise(replicas):
            assert attempts.may_retry(failed, error)
            assert (await anext(attempts)).replica is other
        assert not attempts.may_retry(replicas[-1], error)
    assert context.retries == RetryAllowance()


@pytest.mark.parametrize("failure", ["disconnect", "stale"])
async def test_retry_after_removal(failure: Literal["disconnect", "stale"]) -> None:
    """A call that a removed replica fails is sent to the one that is left."""
    async with create_pool([REFUSING, REFUSING]) as (pool, replicas):
        call = EngineCall(RoutingKey("small"), "/", b"{}", request_context())
        attempts = Attempts(pool, call)
        removed = replicas.pop(0)
        assert attempts.may_retry(removed, EngineUnreachable(failure))
        assert (await anext(attempts)).replica is replicas[0]


async def test_removal_while_moved() -> None:
    """A call moves to a replica that is still there when its attempt has ended."""
    async with create_pool([REFUSING] * 3) as (pool, replicas):
        call = EngineCall(RoutingKey("small"), "/", b"{}", request_context())
        attempts = Attempts(pool, call)
        slow, removed, other = replicas
        assert attempts.may_retry(slow, engine_timeout())  # would go to `removed`
        replicas.remove(removed)
        assert attempts.may_retry(slow, engine_timeout())
        assert (await anext(attempts)).replica is other
    assert call.context.retries.taken == 1


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (EngineUnreachable("disconnect"), True),
        (EngineDisconnected(), True),
        (UpstreamError("failed"), False),
    ],
)
async def test_lost_with_engine(error: GatewayError, *, waits: bool) -> None:
    """A call that an engine worked on when it died goes on without the retry budget."""
    async with create_pool([REFUSING, REFUSING]) as (pool, replicas):
        attempts = Attempts(pool, EngineCall(RoutingKey("small"), "/", b"{}", request_context()))
        now = asyncio.get_running_loop().time()
        while pool.traffic("small").budget.take(now):
            pass
        attempts.note_lost(error, replicas[0], now - 2)
        assert not attempts.may_retry(replicas[0], error)
        assert attempts.may_wait(replicas[0], error) is waits


async def test_lost_with_busy_engine() -> None:
    """A call that has just begun goes on, too, if the engine was responding to others."""
    error = EngineUnreachable("disconnect")
    async with create_pool([REFUSING, REFUSING]) as (pool, replicas):
        now = asyncio.get_running_loop().time()
        replicas[0].activity.at = now
        while pool.traffic("small").budget.take(now):
            pass
        for replica, waits in zip(replicas, (True, False), strict=True):
            call = EngineCall(RoutingKey("small"), "/", b"{}", request_context())
            attempts = Attempts(pool, call)
            attempts.note_lost(error, replica, now)
            assert not attempts.may_retry(replica, error)
            assert attempts.may_wait(replica, error) is waits


@pytest.mark.parametrize(
    ("error", "seconds", "continues"),
    [
        (EngineUnreachable("disconnect"), 2, True),
        (EngineUnreachable("disconnect"), 0, False),
        (EngineUnreachable("refused"), 0, True),
        (UpstreamError("failed"), 2, False),
    ],
)
async def test_lost_again(error: GatewayError, seconds: float, *, continues: bool) -> None:
    """A call that waited goes on if another engine dies at work, but not if it fails at once."""
    lost = EngineUnreachable("disconnect")
    async with create_pool([REFUSING, REFUSING]) as (pool, replicas):
        attempts = Attempts(pool, EngineCall(RoutingKey("small"), "/", b"{}", request_context()))
        attempts.resume = lambda _: True
        now = asyncio.get_running_loop().time()
        attempts.note_lost(lost, replicas[0], now - 2)
        assert attempts.may_wait(replicas[0], lost)
        attempts.note_lost(error, replicas[1], now - seconds)
        assert attempts.may_continue(replicas[1], error) is continues


async def test_no_replica_left() -> None:
    """Without a reachable replica the error says when to try again."""
    async with create_pool([REFUSING]) as (pool, _):
        for _ in range(2):  # refused, then known to be unreachable
            with pytest.raises(UpstreamUnavailable) as caught:
                await send(pool, request_context())
            assert caught.value.retry_after == 2


async def test_lack_of_descriptors() -> None:
    """A call for which there is no descriptor fails as such and leaves the replica healthy."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with create_pool([REFUSING]) as (pool, [replica]):
        with open(os.devnull) as lowest:  # noqa: ASYNC230, PTH123
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno(), hard))
        try:
            with pytest.raises(OutOfResources):
                await send(pool, request_context())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (replica.state, replica.in_flight) == ("healthy", 0)


async def test_activity() -> None:
    """Every response shows that the engine is alive, except for errors of the engine."""
    broken = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
    rejected = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"
    for response, is_alive in ((OK, True), (rejected, True), (broken, False)):
        async with (
            serving_bytes(RawServer([response])) as url,
            create_pool([url]) as (pool, [replica]),
        ):
            with suppress(GatewayError):
                await send(pool, request_context())
            assert replica.is_responding(asyncio.get_running_loop().time()) is is_alive
