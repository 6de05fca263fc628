"""The deepest cause that the numbers show is named, with those numbers."""

from dataclasses import replace
from typing import Any

import pytest

from maxgate.monitor.diagnosis import Cause, diagnose
from maxgate.monitor.histogram import merged
from maxgate.monitor.history import History
from maxgate.monitor.snapshot import ContainerReading, EngineState, Snapshot
from tests.unit.monitor.examples import engine, gateway, gpu, host, snapshot, times

WINDOW = 10.0


def seen(*snapshots: Snapshot) -> History:
    """A history of these looks."""
    history = History(WINDOW)
    for one in snapshots:
        history.add(one)
    return history


def named(history: History) -> list[str]:
    """The names of the causes, deepest first."""
    return [cause.name for cause in diagnose(history).causes]


def busy(at: float, **engine_gauges: float) -> dict[str, Any]:
    """An engine with these gauges on a quiet machine."""
    counters = {"preemptions": engine_gauges.pop("preemptions", 0.0)}
    return {"engines": (engine(engine_gauges, counters),), "host": host(at)}


def test_a_quiet_gateway_has_nothing_wrong() -> None:
    looks = [snapshot(at, gateway(at, ok=int(at)), **busy(at)) for at in range(30)]
    diagnosis = diagnose(seen(*looks))
    assert (diagnosis.slower, diagnosis.causes) == ((), ())


def test_before_the_first_snapshot_nothing_is_known_to_be_wrong_but_that() -> None:
    assert named(History(WINDOW)) == ["the gateway cannot be read"]


@pytest.mark.parametrize(
    ("gauges", "gpus", "cpu", "names"),
    [
        ({"queued": 6}, (gpu(0.97),), 0.2, ["waiting in MAX's queue, GPU saturated"]),
        ({"queued": 6}, (gpu(0.40),), 0.9, ["waiting in MAX's queue, batch limit reached"]),
        ({"queued": 6}, (), 0.95, ["waiting in MAX's queue, processor saturated"]),
        ({"queued": 6}, (), 0.2, ["waiting in MAX's queue, batch limit reached"]),
        ({"awaiting_admission": 9}, (), 0.2, ["waiting in MAX's queue, batch limit reached"]),
        ({"queued": 6, "kv_used_blocks": 97}, (gpu(0.97),), 0.2, ["KV cache full"]),
        ({"responses_buffered": 30}, (gpu(0.97),), 0.2, ["answers pile up in MAX's API process"]),
        ({}, (gpu(0.97, "heat"),), 0.2, ["the GPU is slowed down by heat or power"]),
        ({}, (gpu(0.97),), 0.2, []),
        ({"running": 4}, (), 0.99, ["MAX has the processor full"]),
        ({"running": 4}, (gpu(0.97),), 0.99, []),
        ({"running": 1}, (), 0.99, []),
    ],
)
def test_the_engine(gauges: Any, gpus: Any, cpu: float, names: list[str]) -> None:
    looks = [
        snapshot(at, gateway(at), engines=(engine(gauges),), gpus=gpus, host=host(at, cpu=cpu))
        for at in (0, 5, 10)
    ]
    assert named(seen(*looks)) == names


def test_thrashing_explains_its_queue_and_quotes_its_numbers() -> None:
    looks = [
        snapshot(at, gateway(at), **busy(at, queued=5, kv_used_blocks=99, preemptions=at))
        for at in (0, 5, 10)
    ]
    (cause,) = diagnose(seen(*looks)).causes
    assert isinstance(cause, Cause)
    assert cause.name == "KV cache thrashing"
    assert list(map(str, cause.evidence)) == [
        "max.preemptions 1/s",
        "max.kv_used 99 %",
        "max.running 1",
        "max.queued 5",
    ]


def test_the_gateways_processor() -> None:
    looks = [snapshot(at, gateway(at, ok=int(at), cpu_seconds=0.97 * at)) for at in (0, 10)]
    (cause,) = diagnose(seen(*looks)).causes
    assert cause.name == "the gateway's processor is saturated"
    assert str(cause.evidence[0]) == "gateway.cpu_per_worker 97 %"
    two = [snapshot(at, gateway(at, cpu_seconds=0.97 * at, workers=2)) for at in (0, 10)]
    assert named(seen(*two)) == []


def test_time_that_is_lost_before_the_engine() -> None:
    def look(at: float, n: int) -> Snapshot:
        read = gateway(at, ok=n, ttft=times(0.5, n))
        return snapshot(at, read, engines=(engine(time_to_first_token=times(0.06, n)),))

    (cause,) = diagnose(seen(look(0, 1), look(10, 41))).causes
    assert cause.name == "first tokens are late before MAX has the request"
    assert list(map(str, cause.evidence)) == [
        "gateway.ttft_mean 500 ms",
        "max.ttft_mean 60.0 ms",
        "gateway.cpu_per_worker 10 %",
    ]


def test_no_engine_and_no_gateway() -> None:
    down = (EngineState("http://127.0.0.1:8000", "unreachable", error="no connection"),)
    assert named(seen(snapshot(1, gateway(1, engines=down)))) == ["no engine can be asked"]
    assert named(seen(snapshot(1))) == ["the gateway cannot be read"]


def test_a_machine_without_memory_and_a_container_at_its_limit() -> None:
    full = [snapshot(at, gateway(at), host=host(at, memory=10)) for at in (0, 10)]
    assert named(seen(*full)) == ["memory or processor of the machine is at its limit"]
    held = [
        snapshot(
            at,
            gateway(at),
            containers=(ContainerReading("max", "running", 0, 1, 2, 10 * at, 4 * at),),
        )
        for at in (0, 10)
    ]
    assert named(seen(*held)) == ["memory or processor of the machine is at its limit"]


def rising(*, latency: float = 0.2, prompt: int = 100, output: int = 10) -> History:
    """Half a minute as usual, then twelve seconds in which something is different."""

    def look(at: int) -> Snapshot:
        usual, new = 10 * min(at, 29), 10 * max(at - 29, 0)
        read = gateway(at, latency=merged([times(0.2, usual), times(latency, new)]))
        tokens = {
            "prompt": 100 * usual + prompt * new,
            "completion": 10 * usual + output * new,
            "cached": 0,
        }
        return snapshot(at, replace(read, outcomes={"ok": usual + new}, tokens=tokens))

    return seen(*map(look, range(42)))


def test_slower_is_against_what_is_usual() -> None:
    (slower,) = diagnose(rising(latency=0.9)).slower
    assert str(slower) == "gateway.latency_p95 900 ms, usually 200 ms"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"prompt": 900}, "prompts have become longer"),
        ({"output": 90}, "answers have become longer"),
    ],
)
def test_what_clients_ask_may_be_the_cause(fields: dict[str, int], name: str) -> None:
    assert named(rising(**fields)) == [name]


def test_a_colder_cache() -> None:
    def look(at: int) -> Snapshot:
        hits = min(at, 30) * 90
        counters = {"cache_hit_tokens": hits, "cache_miss_tokens": 100 * at - hits}
        return snapshot(at, gateway(at), engines=(engine(counters=counters),))

    assert named(seen(*map(look, range(42)))) == ["MAX finds less of the prompts in its cache"]
