"""The load of engines follows their metrics, and never depends on them."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from maxgate.upstream.client import HttpxEngineClient
from maxgate.upstream.engine_metrics import (
    MAX_METRICS_BYTES,
    MAX_REQUESTS,
    EngineMetrics,
    EngineMetricsMonitor,
    InvalidMetrics,
    compute_pressure,
    default_metrics_url,
    parse_metrics,
)
from maxgate.upstream.replica import Replica

MAX_METRICS = b"""\
# HELP maxserve_num_requests_running Requests in progress
# TYPE maxserve_num_requests_running gauge
maxserve_num_requests_running 9.0
# TYPE maxserve_num_requests_queued gauge
maxserve_num_requests_queued{model="small"} 2.0
maxserve_num_requests_queued{model="large"} 4e0
maxserve_cache_num_used_blocks 7.0
"""
BUSY = b"maxserve_num_requests_running 9\n"
IDLE = b"maxserve_batch_size_count 1\n"


FULL = b"""\
maxserve_num_requests_running 4
maxserve_cache_num_used_blocks 90.0
maxserve_cache_num_total_blocks 100.0
maxserve_cache_preemption_count_total 2e6
"""


def test_parse() -> None:
    """MAX counts requests in its queues as running; other absent metrics than its queue are 0."""
    queued, waiting = b"maxserve_num_requests_%b 5\n", b"maxserve_num_requests_%b 1\n"
    assert parse_metrics(MAX_METRICS) == EngineMetrics(9, queued=6)
    assert parse_metrics(MAX_METRICS + queued % b"queued") == EngineMetrics(9, queued=5)
    assert parse_metrics(MAX_METRICS + waiting % b"awaiting_admission") == EngineMetrics(
        9, queued=7
    )
    assert parse_metrics(BUSY + queued % b"awaiting_admission") == EngineMetrics(9)
    assert parse_metrics(IDLE + queued % b"queued") == EngineMetrics(0, queued=0)
    assert parse_metrics(IDLE) == EngineMetrics(0)
    assert parse_metrics(FULL) == EngineMetrics(4, 0.9, 2e6)


@pytest.mark.parametrize(
    ("metrics", "preemptions_before", "pressure"),
    [
        (EngineMetrics(4, 0.5, 0), 0, 0.0),
        (EngineMetrics(4, 0.8, 0), 0, 0.0),
        (EngineMetrics(4, 0.9, 0), 0, 0.5),
        (EngineMetrics(4, 1.0, 0), 0, 1.0),
        (EngineMetrics(4, 0.5, 3), 2, 1.0),
        (EngineMetrics(4, 0.5, 3), 3, 0.0),
        (EngineMetrics(4, 0.5, 3), None, 0.0),
        (EngineMetrics(4, 0.5, 3), 9, 0.0),
    ],
    ids=["half", "begin", "90 %", "full", "preempted", "long ago", "first", "restarted"],
)
def test_pressure(
    metrics: EngineMetrics, preemptions_before: float | None, pressure: float
) -> None:
    """The pressure grows from 80 % KV use on, and is 1 after a preemption."""
    assert compute_pressure(metrics, preemptions_before) == pytest.approx(pressure)


@pytest.mark.parametrize("value", [b"NaN", b"+Inf", b"-1", b"1e99", b"1_0", b"0x1", b"9" * 400])
def test_implausible_value(value: bytes) -> None:
    """Values that are no plausible number of requests make the metrics invalid."""
    with pytest.raises(InvalidMetrics, match="implausible values"):
        parse_metrics(b"maxserve_num_requests_running %b\n" % value)


@pytest.mark.parametrize("value", [b"NaN", b"-1", b"9" * 400])
def test_implausible_blocks(value: bytes) -> None:
    """So do numbers of blocks that are no numbers."""
    with pytest.raises(InvalidMetrics, match="implausible values"):
        parse_metrics(b"maxserve_cache_num_used_blocks %b\n" % value)


@given(
    st.lists(
        st.sampled_from(
            [*MAX_METRICS.split(b" "), *FULL.split(b" "), b"{", b"}", b"\n", b"\x00\xff"]
        )
    )
)
def test_hostile_metrics(pieces: list[bytes]) -> None:
    """Whatever the engine sends, the result is in range or InvalidMetrics is raised."""
    with suppress(InvalidMetrics):
        metrics = parse_metrics(b"".join(pieces))
        assert 0 <= (metrics.queued or 0) <= metrics.requests <= MAX_REQUESTS
        assert 0 <= metrics.kv_use <= 1
        assert 0 <= compute_pressure(metrics, 0.0) <= 1


@pytest.mark.parametrize(
    ("url", "port", "metrics_url"),
    [
        ("http://localhost:8000", 0, "http://localhost:8001/metrics"),
        ("http://localhost:8000", 9, "http://localhost:9/metrics"),
        ("http://[::1]:8000", 0, "http://[::1]:8001/metrics"),
    ],
)
def test_default_metrics_url(url: str, port: int, metrics_url: str) -> None:
    """MAX exports its metrics at the port after its own, or at the port of the setting."""
    assert default_metrics_url(url, port) == metrics_url


class Engines:
    """Answers requests for metrics, by host; an exception is raised."""

    def __init__(self, **responses: bytes | Exception | int) -> None:
        self.responses: dict[str, bytes | Exception | int] = {**responses}
        self.on_request: Callable[[], object] = lambda: None
        self.count = 0

    async def handle(self, request: httpx.Request) -> httpx.Response:
        """Respond to one request."""
        self.count += 1
        self.on_request()
        response = self.responses[request.url.host]
        if isinstance(response, Exception):
            raise response
        if isinstance(response, int):
            return httpx.Response(response)
        return httpx.Response(200, content=response)

    def watch(
        self, *replicas: Replica, interval: float = 5.0, pressure_factor: float = 1.0
    ) -> EngineMetricsMonitor:
        """Return a monitor of these replicas."""
        client = HttpxEngineClient(httpx.MockTransport(self.handle))
        return EngineMetricsMonitor(replicas, client, interval, pressure_factor=pressure_factor)


def create_replica(name: str = "a") -> Replica:
    """Return a replica with metrics."""
    return Replica(f"http://{name}:8000", metrics_url=f"http://{name}:8001/metrics")


async def test_poll() -> None:
    """The load is what the engine reports minus our own requests, and at least 0."""
    busy, idle, without = create_replica("a"), create_replica("b"), Replica("http://c:8000")
    busy.in_flight, idle.in_flight = 2, 2
    engines = Engines(a=BUSY, b=IDLE)
    await engines.watch(busy, idle, without).poll()
    assert [(r.engine_load, r.reported_requests) for r in (busy, idle, without)] == [
        (7.0, 9),
        (0.0, 0),
        (0.0, None),
    ]
    assert engines.count == 2


async def test_queue() -> None:
    """Admission gets the running and the queued requests, until the metrics are stale."""
    replica = create_replica("a")
    engines = Engines(a=MAX_METRICS)
    monitor = engines.watch(replica, interval=0.1)
    await monitor.poll()
    assert (replica.reported_running, replica.reported_queued) == (3, 6)
    engines.responses["a"] = 404
    while replica.reported_requests is not None:
        await monitor.poll()
    assert (replica.reported_running, replica.reported_queued) == (None, None)


async def test_queue_is_not_told() -> None:
    """Without the depth of its queue, an engine works on no more requests than it did before."""
    replica, loads = create_replica("a"), list[tuple[int | None, int | None]]()
    engines = Engines()
    monitor = engines.watch(replica)
    for requests, queued in ((4, None), (9, 6), (8, 4), (9, None), (2, None), (20, None)):
        metrics = b"maxserve_num_requests_running %d\n" % requests
        depth = b"" if queued is None else b"maxserve_num_requests_queued %d\n" % queued
        engines.responses["a"] = metrics + depth
        await monitor.poll()
        loads.append((replica.reported_running, replica.reported_queued))
    assert loads == [(4, 0), (3, 6), (4, 4), (4, 5), (2, 0), (4, 16)]


async def test_kv_pressure() -> None:
    """Requests at an engine that is short of KV cache count for more, our own ones as well."""
    full, idle = create_replica("a"), create_replica("b")
    full.in_flight, idle.in_flight = 3, 0
    engines = Engines(a=FULL, b=FULL.replace(b"running 4", b"running 0"))
    monitor = engines.watch(full, idle, pressure_factor=3.0)
    await monitor.poll()
    assert [replica.engine_load for replica in (full, idle)] == pytest.approx([4 * 2 - 3, 0])
    engines.responses["a"] = FULL.replace(b"2e6", b"2000001")
    await monitor.poll()
    assert full.engine_load == pytest.approx(4 * 3 - 3)
    assert full.reported_requests == 4
    await monitor.poll()
    assert full.engine_load == pytest.approx(4 * 2 - 3)


async def test_default_url() -> None:
    """Replicas without a URL of metrics are read at the default one."""
    replica, engines = Replica("http://a:8000"), Engines(a=BUSY)
    client = HttpxEngineClient(httpx.MockTransport(engines.handle))
    await EngineMetricsMonitor([replica], client, 5.0, default_metrics_url).poll()
    assert replica.reported_requests == 9


async def test_discovery() -> None:
    """The port after that of an engine is tried, and read from then on if it has MAX's metrics."""
    found, other, proxied = (Replica(f"http://{name}:8000") for name in ("a", "b", "c"))
    proxied.url = "https://c"
    engines = Engines(a=BUSY, b=404)
    client = HttpxEngineClient(httpx.MockTransport(engines.handle))
    monitor = EngineMetricsMonitor([found, other, proxied], client, 5.0, discovers=True)
    with structlog.testing.capture_logs() as log:
        for _ in range(3):
            await monitor.poll()
    assert (found.reported_requests, other.reported_requests) == (9, None)
    assert engines.count == 3 + 1
    assert log == []


async def test_discovery_of_another_engine() -> None:
    """The port of another engine is not tried."""
    first, second = Replica("http://a:8000"), Replica("http://a:8001")
    engines = Engines(a=404)
    client = HttpxEngineClient(httpx.MockTransport(engines.handle))
    await EngineMetricsMonitor([first, second], client, 5.0, discovers=True).poll()
    assert engines.count == 1


async def test_own_requests_end_while_metrics_are_read() -> None:
    """A request of ours that ends during the reading does not count as one of others."""
    replica, engines = create_replica(), Engines(a=BUSY)
    replica.in_flight = 9
    engines.on_request = lambda: setattr(replica, "in_flight", 0)
    await engines.watch(replica).poll()
    assert (replica.engine_load, replica.in_flight) == (0.0, 0)


@pytest.mark.parametrize(
    "response",
    [
        httpx.ConnectError("refused"),
        ValueError("odd"),
        404,
        b"up 1\n",
        b"maxserve_num_requests_running NaN\n",
        BUSY + b"#" * MAX_METRICS_BYTES,
    ],
    ids=["refused", "bug", "status", "other", "value", "size"],
)
async def test_failure(response: bytes | Exception | int) -> None:
    """After failures, the last reading counts until it is stale; then own counts do."""
    replica, engines = create_replica(), Engines(a=BUSY)
    monitor = engines.watch(replica, interval=0.1)
    await monitor.poll()
    engines.responses["a"] = response
    with structlog.testing.capture_logs() as log:
        await monitor.poll()
        assert replica.engine_load == 9.0
        while replica.engine_load:
            await monitor.poll()
    assert replica.reported_requests is None
    assert [entry["event"] for entry in log] == ["metrics of the engine cannot be read"]
    engines.responses["a"] = BUSY
    await monitor.poll()
    assert replica.engine_load == 9.0


async def test_slow_metrics() -> None:
    """An engine whose metrics are silent delays those of others by one interval at most."""
    slow, quick, engines = create_replica("a"), create_replica("b"), Engines(b=BUSY)

    async def handle(request: httpx.Request) -> httpx.Response:
        if request.url.host == "a":
            await asyncio.Event().wait()
        return await engines.handle(request)

    client = HttpxEngineClient(httpx.MockTransport(handle))
    async with asyncio.timeout(5):
        await EngineMetricsMonitor([slow, quick], client, 0.05).poll()
    assert (slow.engine_load, quick.engine_load) == (0.0, 9.0)


async def test_own_requests() -> None:
    """Changes of this worker's own requests are reported, also when a replica is removed."""
    replica, engines, own = create_replica(), Engines(a=BUSY), 0

    def add(url: str, change: int) -> None:
        nonlocal own
        assert url == replica.url
        own += change

    replicas = [replica]
    client = HttpxEngineClient(httpx.MockTransport(engines.handle))
    monitor = EngineMetricsMonitor(replicas, client, 5.0)
    monitor.on_own(add)
    for in_flight in (3, 5, 0, 2):
        replica.in_flight = in_flight
        await monitor.poll()
        assert own == in_flight
    replicas.clear()
    await monitor.poll()
    assert (own, replica.reported_requests) == (0, None)


async def test_run() -> None:
    """The readings go on after an unexpected error, until they are cancelled or turned off."""
    replica, engines, seen = create_replica(), Engines(a=BUSY), asyncio.Event()

    def fail_once(url: str, change: int) -> None:
        del url, change
        if engines.count == 1:
            raise RuntimeError("bug")
        seen.set()

    replica.in_flight = 1
    monitor = engines.watch(replica, interval=0.01)
    monitor.on_own(fail_once)
    task = asyncio.create_task(monitor.run())
    async with asyncio.timeout(5):
        await seen.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await engines.watch(replica, interval=0).run()
