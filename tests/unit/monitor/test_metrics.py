"""Metrics computed from the snapshots in the window."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from maxgate.monitor.histogram import merge
from maxgate.monitor.http_sources import GatewaySource
from maxgate.monitor.metrics import compute_metrics, count_outcomes
from maxgate.monitor.snapshot import ContainerReading, Snapshot
from tests.fakes.gateway import TLS, StartGateway
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax, Script
from tests.unit.monitor.examples import engine, gateway, gpu, histogram, host, snapshot


def compute(*snapshots: Snapshot, prefix: str = "") -> dict[str, Any]:
    """The metrics whose names start with the prefix, rounded."""
    metrics = compute_metrics(snapshots)
    return {name: round(value, 6) for name, value in metrics.items() if name.startswith(prefix)}


def test_gateway_metrics() -> None:
    """Gateway metrics cover only the interval between the snapshots."""
    slow = histogram(5.0, 10)
    before = gateway(100, ok=10, latency=slow)
    after = gateway(110, ok=50, failed=10, latency=merge([slow, histogram(0.2, 40)]))
    assert compute(snapshot(100, before), snapshot(110, after), prefix="gateway.") == {
        "gateway.up": 1,
        "gateway.requests": 5,
        "gateway.errors": 1,
        "gateway.error_share": 0.2,
        "gateway.answers": 40,
        "gateway.in_flight": 2,
        "gateway.latency_mean": 0.2,
        "gateway.latency_p50": 0.199,
        "gateway.latency_p95": 0.1999,
        "gateway.ttft_mean": 0.05,
        "gateway.ttft_p50": 0.04975,
        "gateway.ttft_p95": 0.049975,
        "gateway.tpot_mean": 0.01,
        "gateway.tpot_p50": 0.00995,
        "gateway.tpot_p95": 0.009995,
        "gateway.output_tokens": 40,
        "gateway.prompt_tokens": 400,
        "gateway.cached_share": 0,
        "gateway.prompt_tokens_each": 100,
        "gateway.output_tokens_each": 10,
        "gateway.cpu_cores": 0.1,
        "gateway.cpu_per_worker": 0.1,
        "gateway.memory": 2**27,
    }


def test_single_snapshot() -> None:
    """A single snapshot gives no rates."""
    assert compute(snapshot(5, gateway(5, ok=3), host=host(5))) == {
        "gateway.up": 1,
        "gateway.in_flight": 2,
        "gateway.memory": 2**27,
        "engines.known": 1,
        "engines.healthy": 1,
        "host.memory": 0.4,
        "host.disk": 0.3,
    }


@pytest.mark.parametrize(
    ("responses", "percentiles"), [(19, ["50"]), (20, ["50", "95"]), (100, ["50", "95", "99"])]
)
def test_percentiles_need_enough_values(responses: int, percentiles: list[str]) -> None:
    """P95 needs 20 responses and P99 needs 100."""
    snapshots = [snapshot(at, gateway(at, ok=n)) for at, n in ((0, 0), (10, responses))]
    metrics = compute(*snapshots, prefix="gateway.latency_p")
    assert [name.removeprefix("gateway.latency_p") for name in metrics] == percentiles


def test_unreachable_gateway() -> None:
    """An unreachable gateway has no metrics except `gateway.up`."""
    assert compute(snapshot(1, gateway(1)), snapshot(2)) == {"gateway.up": 0}


def test_outage() -> None:
    """Requests served while the gateway was unreachable are counted."""
    snapshots = [snapshot(10, gateway(10)), snapshot(15), snapshot(20, gateway(20, ok=30))]
    assert compute(*snapshots)["gateway.requests"] == 3


def test_restarted_gateway() -> None:
    """After a restart, rates cover the time since the restart."""
    snapshots = [snapshot(10, gateway(500, ok=900)), snapshot(20, gateway(5, ok=29))]
    assert compute(*snapshots)["gateway.requests"] == 6  # 29 and one client error in 5 s


def test_outcomes() -> None:
    """Unsuccessful requests are counted in the interval and since the gateway's start."""
    snapshots = [snapshot(at, gateway(at, ok=9 * at, failed=at)) for at in (10, 15)]
    assert count_outcomes(snapshots) == {"timeout": (5, 15), "client_error": (0, 1)}
    assert count_outcomes([snapshot(0)]) == {}


def test_engine_metrics() -> None:
    """Engine metrics are rates of counters, means of gauges and means of histograms."""
    before = engine({"queued": 2}, {"output_tokens": 100, "preemptions": 0, "cache_hit_tokens": 0})
    after = engine(
        {"queued": 4, "kv_used_blocks": 90},
        {"output_tokens": 300, "preemptions": 5, "cache_hit_tokens": 30, "cache_miss_tokens": 90},
        batch_size_decode=histogram(8.0, 20),
    )
    snapshots = [snapshot(0, engines=(before,)), snapshot(10, engines=(after,))]
    assert compute(*snapshots, prefix="max.") == {
        "max.up": 1,
        "max.running": 1,
        "max.queued": 3,
        "max.output_tokens": 20,
        "max.batch_decode": 8,
        "max.kv_used": 0.9,
        "max.cache_hits": 0.25,
        "max.preemptions": 0.5,
    }


def test_missing_gauge() -> None:
    """A queue that an idle engine stops publishing counts as empty."""
    idle = replace(engine(), gauges={"running": 0.0})
    readings = ((0, engine({"queued": 6})), (10, idle))
    assert compute(*(snapshot(at, engines=(e,)) for at, e in readings))["max.queued"] == 3


def test_restarted_engine() -> None:
    """After a restart, counters start at zero at the last reading before it."""
    snapshots = [
        snapshot(at, engines=(engine(counters={"output_tokens": n}),))
        for at, n in ((0, 1000), (10, 50), (20, 250))
    ]
    assert compute(*snapshots)["max.output_tokens"] == 12.5  # 250 in 20 s


def test_host_and_gpu_metrics() -> None:
    """Host and GPU metrics are shares of their capacity."""
    snapshots = [snapshot(at, host=host(at, cpu=0.25), gpus=(gpu(0.9, "heat"),)) for at in (0, 10)]
    assert compute(*snapshots, prefix="host.") == {
        "host.cpu": 0.25,
        "host.memory": 0.4,
        "host.disk": 0.3,
    }
    assert compute(*snapshots, prefix="gpu.") == {
        "gpu.utilisation": 0.9,
        "gpu.memory": 0.5,
        "gpu.power": 300,
        "gpu.temperature": 60,
        "gpu.slowed": 1,
    }


def test_container_metrics() -> None:
    """Container metrics are cores and shares of the container's limits."""

    def container(**fields: Any) -> ContainerReading:
        return ContainerReading("max", "running", memory_used=3, memory_limit=4, **fields)

    snapshots = [
        snapshot(0, containers=(container(cpu_seconds=1.0),)),
        snapshot(10, containers=(container(cpu_seconds=21.0, periods=100, throttled_periods=40),)),
    ]
    assert compute(*snapshots, prefix="container.") == {
        "container.cpu_cores": 2,
        "container.memory": 0.75,
        "container.throttled": 0.4,
    }


async def test_real_gateway(start_gateway: StartGateway) -> None:
    """Two readings of a real gateway give the requests that it served in between."""
    engine = FakeMax(scripts=[Script(), *[Script()] * 25, Script(status=500)])
    async with start_gateway(engine) as running, httpx.AsyncClient(verify=TLS) as client:
        source = GatewaySource(client, running.url)
        await running.chat()
        before, _ = await source.read(0)
        for _ in range(25):
            await running.chat(stream=True)
        await running.chat()
        after, _ = await source.read(10)
    assert before is not None
    assert after is not None
    # The test is faster than 10 s, so the gateway's clock gives the interval.
    interval = after.uptime - before.uptime
    metrics = compute_metrics([Snapshot(0, 0.0, before), Snapshot(10, interval, after)])
    assert (metrics["gateway.answers"], metrics["gateway.error_share"]) == (25, 1 / 26)
    assert metrics["gateway.output_tokens_each"] == len(OUTPUT_TOKENS) + 1
    assert 0 < metrics["gateway.ttft_p95"] <= metrics["gateway.latency_p95"]
    assert "gateway.latency_p99" not in metrics
