"""Replicas come, go, fail and recover under requests: nothing leaks, none is forgotten."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from maxgate.errors import GatewayError, InvalidRequest, UpstreamError, UpstreamOverloaded
from maxgate.upstream.attempts import Attempts
from maxgate.upstream.errors import EngineUnreachable, engine_timeout
from maxgate.upstream.http1.connection import EngineResponse
from maxgate.upstream.http1.messages import EngineRequest
from maxgate.upstream.pool import EngineCall, ReplicaPool
from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.replica_set import ReplicaSet
from maxgate.upstream.routing.policy import RoutingKey
from maxgate.upstream.settings import FailoverSettings, ReplicaSettings, UpstreamSettings
from tests.fakes.requests import request_context
from tests.fakes.timer_loop import VirtualTimeLoop

MODEL, PATH = "small", "/v1/completions"
MODELS = {MODEL: EngineModel(MODEL, 1, 100)}
KEY = RoutingKey(MODEL)
HOSTS = ["a", "b", "c", "d"]
SETTINGS = FailoverSettings.model_validate(
    {
        "breaker": {"consecutive_failures": 2, "min_responses": 4, "trials": 2},
        "slowness": {"min_samples": 2, "min_replica_samples": 2},
    }
)
LONGEST_PAUSE = 31.0
HEAD, TOKEN = b"", b"x"

T = TypeVar("T")
Event: TypeAlias = bytes | Exception
EVENTS: list[Callable[[], Event]] = [
    *(lambda: HEAD, lambda: TOKEN, StopAsyncIteration),
    *(
        lambda: UpstreamError("x"),
        lambda: InvalidRequest("x"),
        lambda: EngineUnreachable("disconnect"),
    ),
]


class Call:
    """A call that an engine works on; `events` has what it sends."""

    def __init__(self, url: str, calls: "list[Call]") -> None:
        self.url = url
        self.events = asyncio.Queue[Event]()
        self.read_timeout = 0.0
        self.is_waiting = True
        self._calls = calls
        calls.append(self)

    async def __anext__(self) -> bytes:
        event = await self.events.get()
        if isinstance(event, bytes):
            return event
        raise event

    def interrupt(self) -> None:
        self.events.put_nowait(engine_timeout())

    async def aclose(self) -> None:
        self._calls.remove(self)


class Counter:
    """The tokens of a stream so far."""

    completion_tokens = 0


class Engines:
    """An EngineClient; `modes` says how engines fail, `misrouted` has calls of the wrong ones."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas
        self.modes: dict[str, str] = {}
        self.calls: list[Call] = []
        self.misrouted: list[str] = []

    async def send(self, request: EngineRequest) -> EngineResponse:
        url = str(request.route.url).removesuffix(PATH)
        if not any(replica.url == url and not replica.draining for replica in self._replicas):
            self.misrouted.append(url)
        mode = self.modes.get(url)
        if mode == "down":
            raise EngineUnreachable("refused")
        if mode == "full":
            raise UpstreamOverloaded("full", retry_after=3)
        if mode == "fails":
            raise UpstreamError("failed")
        call = Call(url, self.calls)
        try:
            await anext(call)
        except StopAsyncIteration:
            call.events.put_nowait(StopAsyncIteration())  # a response without a body
        except BaseException:
            await call.aclose()
            raise
        return EngineResponse(200, [], call)

    async def aclose(self) -> None:
        """See EngineClient."""


class OrderedSet(dict[Any, None]):
    """A set in the order of insertion, so that a run can be repeated."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)


def draw_one(data: st.DataObject, items: Sequence[T]) -> T:
    """Draw one of the items, by its index: hypothesis keeps what it draws."""
    return items[data.draw(st.integers(0, len(items) - 1))]


class Machine(RuleBasedStateMachine):
    """Engines are added, changed, drained and removed, fail and recover, under requests."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.configured: dict[str, ReplicaSettings] = {}
        self.draining: set[str] = set()
        self.set = ReplicaSet([])
        self.engines = Engines(self.set.replicas)
        self.pool = ReplicaPool(self.set.replicas, self.engines, UpstreamSettings(), SETTINGS)
        self.traffic = self.pool.traffic(MODEL)
        self.traffic.waiting = OrderedSet()
        self.traffic.streams = OrderedSet()
        self.set.on_change(lambda removed: [self.pool.forget(replica) for replica in removed])
        self.replicas = weakref.WeakSet[Replica]()
        self.tasks: list[asyncio.Task[None]] = []
        self.watch = self.loop.create_task(self.pool.run())
        for host in HOSTS[:2]:
            self.configure(host, "", 1, None)
        self.probe()

    # Changes of the configuration

    @rule(
        host=st.sampled_from(HOSTS),
        key=st.sampled_from(["", "user:key@"]),
        weight=st.sampled_from([1, 1, 2, 3]),
        max_concurrency=st.sampled_from([None, None, 1, 3]),
    )
    def configure(self, host: str, key: str, weight: float, max_concurrency: int | None) -> None:
        """Add an engine, or change one."""
        self.configured[host] = ReplicaSettings(
            url=f"http://{key}{host}", weight=weight, max_concurrency=max_concurrency
        )
        self.apply()

    @precondition(lambda self: self.configured)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Remove an engine."""
        del self.configured[data.draw(st.sampled_from(sorted(self.configured)))]
        self.apply()

    @rule(host=st.sampled_from(HOSTS))
    def drain(self, host: str) -> None:
        """Drain an engine, or end its drain."""
        self.draining ^= {ReplicaSettings(url=f"http://{host}").id}
        self.apply()

    def apply(self) -> None:
        """Apply the configuration."""
        self.set.apply(list(self.configured.values()), self.draining)
        self.replicas.update(self.set.replicas)
        self.loop.settle()

    # Changes of the engines

    @rule(host=st.sampled_from(HOSTS), mode=st.sampled_from(["down", "full", "fails", "works"]))
    def change(self, host: str, mode: str) -> None:
        """Let an engine fail, or work again; one that is down loses its calls."""
        self.engines.modes[f"http://{host}"] = mode
        for call in self.engines.calls:
            if mode == "down" and call.url == f"http://{host}":
                call.events.put_nowait(EngineUnreachable("disconnect"))
        self.loop.settle()

    @rule()
    def probe(self) -> None:
        """Find out which engines are up."""
        for replica in self.set.replicas:
            if self.engines.modes.get(replica.url) == "down":
                replica.mark_probe_failed("down", refused=True, now=self.loop.now)
            else:
                replica.mark_healthy(MODELS, now=self.loop.now)

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.1, 2.5, 10, LONGEST_PAUSE]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.advance(seconds)

    # Requests

    @rule(stream=st.booleans(), continues=st.booleans())
    def begin(self, *, stream: bool, continues: bool) -> None:
        """Send a request."""
        self.tasks.append(self.loop.create_task(self._request(stream, continues)))
        self.loop.settle()

    async def _request(self, stream: bool, continues: bool) -> None:
        call = EngineCall(KEY, PATH, b"{}", request_context(), stream, max_tokens=8)
        attempts = Attempts(self.pool, call)
        continuations = iter([continues] * 3)
        attempts.resume = lambda _: next(continuations, False)
        try:
            async for attempt in attempts:
                with attempt:
                    if not stream:
                        await attempt.fetch()
                        attempt.completion_tokens = 8
                        return
                    async with await attempt.open() as response:
                        counter = Counter()
                        async for _ in response:
                            counter.completion_tokens += 1
                            if not attempt.has_first_token:
                                attempt.note_first_token(counter)
                    return
        except GatewayError:
            pass

    @precondition(lambda self: self.engines.calls)
    @rule(data=st.data(), make_event=st.sampled_from(EVENTS))
    def respond(self, data: st.DataObject, make_event: Callable[[], Event]) -> None:
        """Let an engine send something, or end a call."""
        call = draw_one(data, self.engines.calls)
        call.events.put_nowait(make_event())
        self.loop.settle()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Let a client disconnect."""
        draw_one(data, self.tasks).cancel()
        self.loop.settle()

    @precondition(lambda self: self.traffic.waiting)
    @rule(data=st.data(), change=st.sampled_from(["none", "drain", "remove"]))
    def move(self, data: st.DataObject, change: str) -> None:
        """Move a request that waits too long; the other engine may be leaving at the moment."""
        draw_one(data, list(self.traffic.waiting)).end_wait()
        if change == "drain":
            self.draining.update(replica.id for replica in self.set.replicas)
        elif change == "remove":
            self.configured.clear()
        self.apply()

    # What must hold

    @rule()
    def spread(self) -> None:
        """Every replica that can get requests gets some of the next ones."""
        now, call = self.loop.now, EngineCall(KEY, PATH, b"{}", request_context())
        healthy = [r for r in self.set.replicas if r.state == "healthy" and not r.draining]
        breakers = [self.traffic.breaker(replica) for replica in healthy]
        if any(breaker.is_restricted(now) and breaker.allows(now) for breaker in breakers):
            return  # the next request is a trial
        loads = {
            replica: (replica.in_flight + 1) / replica.weight
            for replica, breaker in zip(healthy, breakers, strict=True)
            if breaker.allows(now) and not replica.is_saturated
        }
        least = [replica for replica, load in loads.items() if load == min(loads.values())]
        chosen = {self.pool.choose(call, now) for _ in range(32 * len(loads))}
        assert chosen >= set(least)
        heaviest = max(replica.weight for replica in healthy) if healthy else 0
        count = sum(int(heaviest * max(loads.values())) + 1 for _ in loads)
        picks = [self.pick(call) for _ in range(count)]
        assert set(picks) >= set(loads)
        for replica in picks:
            replica.in_flight -= 1

    def pick(self, call: EngineCall) -> Replica:
        """Choose a replica, and give it a request that lasts."""
        replica = self.pool.choose(call, self.loop.now)
        assert replica is not None
        replica.in_flight += 1
        return replica

    @invariant()
    def requests_are_counted(self) -> None:
        """Each replica has the requests that its engine works on."""
        self.check_tasks()
        counted = dict.fromkeys([f"http://{host}" for host in HOSTS], 0)
        for replica in self.replicas:
            counted[replica.url] += replica.in_flight
        urls = [call.url for call in self.engines.calls]
        assert counted == {url: urls.count(url) for url in counted}
        assert len(self.traffic.waiting) <= len(urls)

    @invariant()
    def is_never_misrouted(self) -> None:
        """Replicas that are drained or removed get no requests."""
        assert self.engines.misrouted == []

    @invariant()
    def removed_replicas_are_forgotten(self) -> None:
        """Nothing is kept of replicas that were removed."""
        known = {*self.traffic._breakers, *(replica for replica, _ in self.traffic._by_replica)}
        running = {replica for replica in self.replicas if replica.in_flight}
        assert known - {*self.set.replicas} - running == set()

    def check_tasks(self) -> None:
        """Raise the unexpected error of a request."""
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            if not task.cancelled():
                task.result()

    def teardown(self) -> None:
        """Engines that work again are found, and requests that have ended leave nothing."""
        self.engines.modes.clear()
        self.draining.clear()
        self.apply()
        self.end_requests()
        self.probe()
        self.loop.advance(LONGEST_PAUSE)
        for _ in range(10 * len(HOSTS)):
            self.begin(stream=True, continues=False)
            for call in self.engines.calls:
                call.events.put_nowait(HEAD)
                call.events.put_nowait(TOKEN)
            self.loop.settle()
        assert [r.url for r in self.set.replicas if not r.in_flight] == []
        self.end_requests()
        assert [replica.in_flight for replica in self.replicas if replica.in_flight] == []
        assert not self.traffic.waiting
        assert not self.traffic.streams
        self.watch.cancel()
        self.configured.clear()
        self.apply()
        self.loop.close()
        gc.collect()
        assert list(self.replicas) == []

    def end_requests(self) -> None:
        """Let every request end."""
        while self.tasks:
            for call in self.engines.calls:
                call.events.put_nowait(StopAsyncIteration())
            self.loop.advance(1)
            self.check_tasks()


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
)
