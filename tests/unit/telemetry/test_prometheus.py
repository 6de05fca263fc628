"""The exposition has the counts, in the conventions of Prometheus."""

from typing import get_args

from prometheus_client.parser import text_string_to_metric_families

from maxgate.generation.context import ServiceClass
from maxgate.generation.request_record import Refusal
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.prometheus import EngineSample, exposition
from maxgate.telemetry.snapshot import ProcessUsage, Snapshot
from tests.fakes.clock import FakeClock
from tests.fakes.request_records import finished_record, send_records

Sample = tuple[str, frozenset[tuple[str, str]]]


def parse_samples(snapshot: Snapshot) -> dict[Sample, float]:
    """Values by name and labels."""
    text, _ = exposition(
        snapshot,
        [
            EngineSample(url="http://engine", healthy=True, in_flight=2, reported=5),
            EngineSample(url="http://off", healthy=False, in_flight=0, breakers_open=1),
        ],
        "",
    )
    families = text_string_to_metric_families(text.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}


def sample(name: str, **labels: str) -> Sample:
    return f"maxgate_{name}", frozenset(labels.items())


def used_snapshot() -> Snapshot:
    """The snapshot after three requests, with two more in the queue."""
    store = MetricsStore(FakeClock())
    store.set_slots("small", 8, 7, {"flex": 2})
    send_records(
        store,
        finished_record(duration=0.3),
        finished_record(duration=700.0),
        finished_record(outcome="timeout"),
    )
    snapshot = store.snapshot()
    snapshot.processes = ProcessUsage(2.5, 4096, 30, 100)
    return snapshot


def test_counters_and_gauges() -> None:
    """Every counter and gauge has its value; outcomes that did not occur have no sample."""
    labels = {"route": "/v1/x", "model": "small"}
    samples = parse_samples(used_snapshot())
    assert {key: value for key, value in samples.items() if "le" not in dict(key[1])} == {
        sample("requests_in_flight"): 0,
        sample("log_lines_dropped_total"): 0,
        sample("out_of_resources_total"): 0,
        sample("workers"): 1,
        sample("process_cpu_seconds_total"): 2.5,
        sample("process_resident_memory_bytes"): 4096,
        sample("process_open_files"): 30,
        sample("process_max_files"): 100,
        sample("engine_up", engine="http://engine"): 1,
        sample("engine_up", engine="http://off"): 0,
        sample("engine_breakers_open", engine="http://engine"): 0,
        sample("engine_breakers_open", engine="http://off"): 1,
        sample("engine_requests_in_flight", engine="http://engine"): 2,
        sample("engine_requests_in_flight", engine="http://off"): 0,
        sample("engine_requests_own", engine="http://engine"): 0,
        sample("engine_requests_orphaned", engine="http://engine"): 5,
        sample("engine_calls_total", engine="http://engine"): 6,
        sample("engine_watch_failures_total", engine="http://engine"): 0,
        sample("queue_duration_seconds_count", model="small"): 3,
        sample("queue_duration_seconds_sum", model="small"): 0.75,
        **{
            sample("queue_length", **{"class": name, "model": "small"}): 2 * (name == "flex")
            for name in get_args(ServiceClass)
        },
        **{
            sample("requests_refused_total", model="small", reason=reason): 0
            for reason in get_args(Refusal)
        },
        **{
            sample(f"usage_{name}"): 0
            for name in ("lines_total", "lines_lost_total", "lines_moved_total", "spool_bytes")
        },
        sample("slots", model="small"): 8,
        sample("slots_in_use", model="small"): 7,
        sample("requests_total", outcome="ok", **labels): 2,
        sample("requests_total", outcome="timeout", **labels): 1,
        sample("retries_total", **labels): 3,
        sample("continuations_total", **labels): 0,
        sample("tokens_total", type="prompt", **labels): 111,
        sample("tokens_total", type="completion", **labels): 15,
        sample("tokens_total", type="cached", **labels): 6,
        sample("request_duration_seconds_count", **labels): 2,
        sample("request_duration_seconds_sum", **labels): 700.3,
        sample("time_to_first_token_seconds_count", **labels): 2,
        sample("time_to_first_token_seconds_sum", **labels): 2 * (10.1 - 10.0),
        sample("time_per_output_token_seconds_count", **labels): 2,
        sample("time_per_output_token_seconds_sum", **labels): 2 * ((10.5 - 10.1) / 4),
    }


def test_histogram_buckets() -> None:
    """Buckets are cumulative; their bounds double from 0.00125 s to 81.92 s."""
    bounds = {
        dict(labels)["le"]: value
        for (name, labels), value in parse_samples(used_snapshot()).items()
        if name == "maxgate_request_duration_seconds_bucket"
    }
    expected = {f"{0.00125 * 2**n:.12g}": float(n >= 8) for n in range(17)}
    assert {f"{float(bound):.12g}": value for bound, value in bounds.items()} == {
        **expected,
        "inf": 2.0,
    }


def test_unknown_process_usage() -> None:
    """Metrics of processes are left out if the operating system does not report them."""
    names = {name for name, _ in parse_samples(Snapshot())}
    assert not {name for name in names if name.startswith("maxgate_process_")}


def test_formats() -> None:
    """The `Accept` header selects the format."""
    openmetrics = "application/openmetrics-text; version=1.0.0"
    assert exposition(Snapshot(), [], "text/plain")[1].startswith("text/plain")
    assert exposition(Snapshot(), [], openmetrics)[1].startswith("application/openmetrics-text")
