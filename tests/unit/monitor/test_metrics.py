"""Numbers are about the stretch between snapshots, and only what is known is told."""

from dataclasses import replace
from typing import Any

import pytest

from maxgate.monitor.catalogue import CATALOGUE, show
from maxgate.monitor.histogram import merged
from maxgate.monitor.metrics import numbers
from maxgate.monitor.snapshot import ContainerReading, Snapshot
from tests.unit.monitor.examples import engine, gateway, gpu, host, snapshot, times


def told(*snapshots: Snapshot, prefix: str = "") -> dict[str, Any]:
    """The numbers after these looks whose names start so."""
    found = numbers(snapshots)
    return {name: round(value, 6) for name, value in found.items() if name.startswith(prefix)}


def test_the_gateways_numbers_over_ten_seconds() -> None:
    slow = times(5.0, 10)
    before = gateway(100, ok=10, latency=slow)
    after = gateway(110, ok=50, failed=10, latency=merged([slow, times(0.2, 40)]))
    found = told(snapshot(100, before), snapshot(110, after), prefix="gateway.")
    assert found == {
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


def test_one_look_gives_no_rates() -> None:
    found = told(snapshot(5, gateway(5, ok=3), host=host(5)))
    assert found == {
        "gateway.up": 1,
        "gateway.in_flight": 2,
        "gateway.memory": 2**27,
        "engines.known": 1,
        "engines.healthy": 1,
        "host.memory": 0.4,
        "host.disk": 0.3,
    }


@pytest.mark.parametrize(
    ("answers", "percentiles"), [(19, ["50"]), (20, ["50", "95"]), (100, ["50", "95", "99"])]
)
def test_a_percentile_needs_answers_beyond_it(answers: int, percentiles: list[str]) -> None:
    looks = [snapshot(at, gateway(at, ok=n)) for at, n in ((0, 0), (10, answers))]
    found = told(*looks, prefix="gateway.latency_p")
    assert [name.removeprefix("gateway.latency_p") for name in found] == percentiles


def test_a_queue_that_an_idle_engine_no_longer_publishes_is_empty() -> None:
    idle = replace(engine(), gauges={"running": 0.0})
    looks = [snapshot(at, engines=(one,)) for at, one in ((0, engine({"queued": 6})), (10, idle))]
    assert told(*looks)["max.queued"] == 3


def test_while_the_gateway_is_away_nothing_is_said_of_it() -> None:
    assert told(snapshot(1, gateway(1)), snapshot(2)) == {"gateway.up": 0}


def test_what_happened_while_nobody_could_ask_is_not_lost() -> None:
    looks = [snapshot(10, gateway(10)), snapshot(15), snapshot(20, gateway(20, ok=30))]
    assert told(*looks)["gateway.requests"] == 3


def test_after_a_restart_all_that_was_counted_since_is_counted() -> None:
    looks = [snapshot(10, gateway(500, ok=900)), snapshot(20, gateway(5, ok=29))]
    assert told(*looks)["gateway.requests"] == 6  # 29 and the client's own mistake, in 5 s


def test_the_engines_numbers() -> None:
    before = engine({"queued": 2}, {"output_tokens": 100, "preemptions": 0, "cache_hit_tokens": 0})
    after = engine(
        {"queued": 4, "kv_used_blocks": 90},
        {"output_tokens": 300, "preemptions": 5, "cache_hit_tokens": 30, "cache_miss_tokens": 90},
        batch_size_decode=times(8.0, 20),
    )
    found = told(snapshot(0, engines=(before,)), snapshot(10, engines=(after,)), prefix="max.")
    assert found == {
        "max.up": 1,
        "max.running": 1,
        "max.queued": 3,
        "max.output_tokens": 20,
        "max.batch_decode": 8,
        "max.kv_used": 0.9,
        "max.cache_hits": 0.25,
        "max.preemptions": 0.5,
    }


def test_an_engine_that_started_anew_is_counted_from_zero() -> None:
    looks = [
        snapshot(at, engines=(engine(counters={"output_tokens": n}),))
        for at, n in ((0, 1000), (10, 50), (20, 250))
    ]
    assert told(*looks)["max.output_tokens"] == 12.5  # 250 in the 20 s since it was last seen


def test_machine_and_gpu() -> None:
    looks = [snapshot(at, host=host(at, cpu=0.25), gpus=(gpu(0.9, "heat"),)) for at in (0, 10)]
    assert told(*looks, prefix="host.") == {"host.cpu": 0.25, "host.memory": 0.4, "host.disk": 0.3}
    assert told(*looks, prefix="gpu.") == {
        "gpu.utilisation": 0.9,
        "gpu.memory": 0.5,
        "gpu.power": 300,
        "gpu.temperature": 60,
        "gpu.slowed": 1,
    }


def test_containers() -> None:
    def container(**fields: Any) -> ContainerReading:
        return ContainerReading("max", "running", memory_used=3, memory_limit=4, **fields)

    looks = [
        snapshot(0, containers=(container(cpu_seconds=1.0),)),
        snapshot(10, containers=(container(cpu_seconds=21.0, periods=100, throttled_periods=40),)),
    ]
    assert told(*looks, prefix="container.") == {
        "container.cpu_cores": 2,
        "container.memory": 0.75,
        "container.throttled": 0.4,
    }


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("gateway.ttft_p95", 0.0123, "12.3 ms"),
        ("gateway.ttft_p95", 0.4123, "412 ms"),
        ("gateway.ttft_p95", 1.2, "1.20 s"),
        ("gateway.error_share", 0.0, "0 %"),
        ("gateway.error_share", 0.0012, "0.1 %"),
        ("max.kv_used", 0.97, "97 %"),
        ("gateway.memory", 2**30 * 1.5, "1.5 GiB"),
        ("gateway.memory", 2**27, "128 MiB"),
        ("gateway.output_tokens", 1234.5, "1,234/s"),
        ("gateway.requests", 2.345, "2.35/s"),
        ("max.running", 8.0, "8"),
        ("max.queued", 12.34, "12.3"),
        ("gpu.power", 312.4, "312 W"),
    ],
)
def test_numbers_are_shown_with_their_units(name: str, value: float, shown: str) -> None:
    assert show(name, value) == shown


def test_every_number_is_in_the_catalogue_with_a_text() -> None:
    assert all(quantity.text for quantity in CATALOGUE.values())
