"""Causes of slowness and their evidence."""

from dataclasses import replace
from typing import Any

import pytest

from maxgate.monitor.diagnosis import Cause, diagnose
from maxgate.monitor.histogram import merge
from maxgate.monitor.history import History
from maxgate.monitor.snapshot import ContainerReading, EngineState, Snapshot
from tests.unit.monitor.examples import engine, gateway, gpu, histogram, host, snapshot

WINDOW = 10.0


def fill(*snapshots: Snapshot) -> History:
    """A history of these snapshots."""
    history = History(WINDOW)
    for one in snapshots:
        history.add(one)
    return history


def causes(history: History) -> list[str]:
    """The names of the causes, deepest first."""
    return [cause.name for cause in diagnose(history).causes]


def busy(at: float, **engine_gauges: float) -> dict[str, Any]:
    """An engine with these gauges on an idle host."""
    counters = {"preemptions": engine_gauges.pop("preemptions", 0.0)}
    return {"engines": (engine(engine_gauges, counters),), "host": host(at)}


def test_idle_gateway() -> None:
    """An idle gateway has no causes."""
    snapshots = [snapshot(at, gateway(at, ok=int(at)), **busy(at)) for at in range(30)]
    diagnosis = diagnose(fill(*snapshots))
    assert (diagnosis.slower, diagnosis.causes) == ((), ())


def test_empty_history() -> None:
    """Before the first snapshot, the gateway counts as unreachable."""
    assert causes(History(WINDOW)) == ["gateway unreachable"]


@pytest.mark.parametrize(
    ("gauges", "gpus", "cpu", "expected"),
    [
        ({"queued": 6}, (gpu(0.97),), 0.2, ["queue in MAX, GPU saturated"]),
        ({"queued": 6}, (gpu(0.40),), 0.9, ["queue in MAX, batch limit reached"]),
        ({"queued": 6}, (), 0.95, ["queue in MAX, CPU saturated"]),
        ({"queued": 6}, (), 0.2, ["queue in MAX, batch limit reached"]),
        ({"awaiting_admission": 9}, (), 0.2, ["queue in MAX, batch limit reached"]),
        ({"queued": 6, "kv_used_blocks": 97}, (gpu(0.97),), 0.2, ["KV cache full"]),
        (
            {"responses_buffered": 30},
            (gpu(0.97),),
            0.2,
            ["responses accumulate in MAX's API process"],
        ),
        ({}, (gpu(0.97, "heat"),), 0.2, ["GPU throttled by heat or power"]),
        ({}, (gpu(0.97),), 0.2, []),
        ({"running": 4}, (), 0.99, ["MAX saturates the CPU"]),
        ({"running": 4}, (gpu(0.97),), 0.99, []),
        ({"running": 1}, (), 0.99, []),
    ],
)
def test_engine(gauges: Any, gpus: Any, cpu: float, expected: list[str]) -> None:
    """Queues, caches and devices of the engine are distinguished."""
    snapshots = [
        snapshot(at, gateway(at), engines=(engine(gauges),), gpus=gpus, host=host(at, cpu=cpu))
        for at in (0, 5, 10)
    ]
    assert causes(fill(*snapshots)) == expected


def test_kv_cache_thrashing() -> None:
    """Thrashing hides the queue that it causes, and quotes it as evidence."""
    snapshots = [
        snapshot(at, gateway(at), **busy(at, queued=5, kv_used_blocks=99, preemptions=at))
        for at in (0, 5, 10)
    ]
    (cause,) = diagnose(fill(*snapshots)).causes
    assert isinstance(cause, Cause)
    assert cause.name == "KV cache thrashing"
    assert list(map(str, cause.evidence)) == [
        "max.preemptions 1/s",
        "max.kv_used 99 %",
        "max.running 1",
        "max.queued 5",
    ]


def test_gateway_cpu() -> None:
    """The gateway's CPU counts per worker."""
    snapshots = [snapshot(at, gateway(at, ok=int(at), cpu_seconds=0.97 * at)) for at in (0, 10)]
    (cause,) = diagnose(fill(*snapshots)).causes
    assert cause.name == "gateway CPU saturated"
    assert str(cause.evidence[0]) == "gateway.cpu_per_worker 97 %"
    two = [snapshot(at, gateway(at, cpu_seconds=0.97 * at, workers=2)) for at in (0, 10)]
    assert causes(fill(*two)) == []


def test_delay_before_max() -> None:
    """A gateway TTFT far above MAX's TTFT is a delay between the two."""

    def take(at: float, n: int) -> Snapshot:
        reading = gateway(at, ok=n, ttft=histogram(0.5, n))
        return snapshot(at, reading, engines=(engine(time_to_first_token=histogram(0.06, n)),))

    (cause,) = diagnose(fill(take(0, 1), take(10, 41))).causes
    assert cause.name == "first tokens are delayed before requests reach MAX"
    assert list(map(str, cause.evidence)) == [
        "gateway.ttft_mean 500 ms",
        "max.ttft_mean 60.0 ms",
        "gateway.cpu_per_worker 10 %",
    ]


def test_nothing_reachable() -> None:
    """A missing gateway and a missing engine are causes of their own."""
    down = (EngineState("http://127.0.0.1:8000", "unreachable", error="connection failed"),)
    assert causes(fill(snapshot(1, gateway(1, engines=down)))) == ["no healthy engine"]
    assert causes(fill(snapshot(1))) == ["gateway unreachable"]


def test_host_limits() -> None:
    """Full host memory and a throttled container are reported."""
    full = [snapshot(at, gateway(at), host=host(at, memory=10)) for at in (0, 10)]
    assert causes(fill(*full)) == ["host memory or container CPU at its limit"]
    throttled = [
        snapshot(
            at,
            gateway(at),
            containers=(ContainerReading("max", "running", 0, 1, 2, 10 * at, 4 * at),),
        )
        for at in (0, 10)
    ]
    assert causes(fill(*throttled)) == ["host memory or container CPU at its limit"]


def change(*, latency: float = 0.2, prompt: int = 100, output: int = 10) -> History:
    """30 seconds of usual load, then 12 seconds with other values."""

    def take(at: int) -> Snapshot:
        usual, new = 10 * min(at, 29), 10 * max(at - 29, 0)
        reading = gateway(at, latency=merge([histogram(0.2, usual), histogram(latency, new)]))
        tokens = {
            "prompt": 100 * usual + prompt * new,
            "completion": 10 * usual + output * new,
            "cached": 0,
        }
        return snapshot(at, replace(reading, outcomes={"ok": usual + new}, tokens=tokens))

    return fill(*map(take, range(42)))


def test_slower() -> None:
    """A latency is compared with its usual value."""
    (slower,) = diagnose(change(latency=0.9)).slower
    assert str(slower) == "gateway.latency_p95 900 ms, usually 200 ms"


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"prompt": 900}, "prompts are longer than usual"),
        ({"output": 90}, "responses are longer than usual"),
    ],
)
def test_changed_requests(fields: dict[str, int], cause: str) -> None:
    """Longer prompts and responses are causes."""
    assert causes(change(**fields)) == [cause]


def test_cache_hit_rate() -> None:
    """A lower hit rate of MAX's prefix cache is a cause."""

    def take(at: int) -> Snapshot:
        hits = min(at, 30) * 90
        counters = {"cache_hit_tokens": hits, "cache_miss_tokens": 100 * at - hits}
        return snapshot(at, gateway(at), engines=(engine(counters=counters),))

    assert causes(fill(*map(take, range(42)))) == ["prefix cache hit rate is lower than usual"]
