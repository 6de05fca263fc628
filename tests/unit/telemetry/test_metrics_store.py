"""Counts add up, over requests and over workers."""

import multiprocessing
from pathlib import Path

import pytest

from maxgate.errors import ConfigurationError
from maxgate.generation.request_record import RequestRecord
from maxgate.telemetry.histogram import BUCKETS, upper_bound
from maxgate.telemetry.metrics_store import MetricsStore
from tests.fakes.clock import FakeClock


def finished(
    *, model: str = "small", outcome: str = "ok", duration: float = 1.0, route: str = "/v1/x"
) -> RequestRecord:
    return RequestRecord(
        "req_1",
        "POST",
        route,
        started_at=10.0,
        finished_at=10.0 + duration,
        outcome=outcome,  # type: ignore[arg-type]
        model=model,
        first_token_at=10.1,
        last_token_at=10.5,
        prompt_tokens=37,
        completion_tokens=5,
        cached_tokens=2,
    )


def record(store: MetricsStore, *traces: RequestRecord) -> None:
    for trace in traces:
        store.request_started()
        store.request_finished(trace)


def test_the_description_of_what_was_counted() -> None:
    clock = FakeClock()
    store = MetricsStore(clock)
    store.request_started()
    record(store, finished(), finished(outcome="timeout"), finished(outcome="client_error"))
    clock.advance(5)
    description = store.snapshot().describe()
    small = description["models"].pop("small")
    assert description["requests"] == {
        "count": 3,
        "errors": 1,
        "error_rate": 1 / 3,
        "by_outcome": {"ok": 1, "client_error": 1, "timeout": 1},
        "in_flight": 1,
    }
    assert description["tokens"] == {
        "prompt": 111,
        "completion": 15,
        "cached": 6,
        "total": 126,
    }
    assert description["latency_seconds"]["count"] == 1
    assert description["latency_seconds"]["mean"] == 1.0
    assert abs(description["latency_seconds"]["p50"] - 1) < 0.022
    assert abs(description["time_to_first_token_seconds"]["p99"] - 0.1) < 0.0022
    assert abs(description["time_per_output_token_seconds"]["mean"] - 0.1) < 1e-9
    assert (description["workers"], description["uptime_seconds"]) == (1, 5.0)
    assert small["tokens"] == description["tokens"]


def test_nothing_counted_is_null_and_not_zero() -> None:
    description = MetricsStore(FakeClock()).snapshot().describe()
    assert description["latency_seconds"] == {
        "count": 0,
        "mean": None,
        "p50": None,
        "p95": None,
        "p99": None,
    }
    assert description["requests"]["error_rate"] == 0.0


def test_ever_new_models_take_no_more_memory() -> None:
    store = MetricsStore(FakeClock())
    record(store, *(finished(model=f"m{number}") for number in range(200)))
    series = store.snapshot().series
    assert len(series) == 64
    assert sum(one.outcomes["ok"] for one in series) == 200
    assert next(one for one in series if one.model == "other").outcomes["ok"] == 137


def _work(folder: Path, requests: int) -> None:
    store = MetricsStore(FakeClock(), folder)
    store.request_started()
    record(store, *[finished()] * requests)


def test_workers_add_up_and_the_dead_ones_hold_no_requests(tmp_path: Path) -> None:
    store = MetricsStore(FakeClock(), tmp_path)
    record(store, finished())
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=(tmp_path, number)) for number in (2, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    snapshot = store.snapshot()
    assert snapshot.total().outcomes["ok"] == 6
    assert (snapshot.workers, snapshot.in_flight) == (1, 0)


def test_a_file_that_is_being_made_is_passed_over(tmp_path: Path) -> None:
    store = MetricsStore(FakeClock(), tmp_path)
    (tmp_path / "1.metrics").write_bytes(b"")
    assert store.snapshot().workers == 1


def test_buckets_tell_what_lies_between_two_readings() -> None:
    store = MetricsStore(FakeClock())
    record(store, finished(duration=0.02), finished(duration=0.02), finished(duration=7000.0))
    small = store.snapshot().describe(buckets=True)["models"]["small"]
    (low, high, count), last = small["latency_seconds"]["buckets"]
    assert (low < 0.02 <= high, count) == (True, 2)
    assert last == (upper_bound(BUCKETS - 2), None, 1)


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ConfigurationError, match=r"setting telemetry\.metrics_dir: .*file/m: Not a directory"
    ):
        MetricsStore(FakeClock(), tmp_path / "file" / "m")
