"""Counts add up, over requests and over workers."""

import errno
import multiprocessing
import os
from pathlib import Path
from typing import get_args

import pytest

from maxgate.errors import ConfigurationError
from maxgate.generation.request_record import Refusal
from maxgate.telemetry.counter_file import CounterFile
from maxgate.telemetry.histogram import find_bucket
from maxgate.telemetry.layout import Layout
from maxgate.telemetry.metrics_store import MetricsStore, read_process_usage
from maxgate.telemetry.registry import (
    ENGINE_CALLS,
    MODEL,
    OUTCOME,
    QUEUE_DURATION,
    REFUSAL,
    REQUEST_DURATION,
    REQUESTS,
    REQUESTS_IN_FLIGHT,
    REQUESTS_REFUSED,
    TIME_PER_OUTPUT_TOKEN,
    TIME_TO_FIRST_TOKEN,
    TOKENS,
    Metric,
)
from maxgate.telemetry.snapshot import ProcessUsage, Snapshot
from tests.fakes.clock import FakeClock
from tests.fakes.request_records import finished_record, send_records

TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def store() -> MetricsStore:
    """A store without other workers."""
    return MetricsStore(FakeClock())


def list_counts(snapshot: Snapshot, *, zeros: bool = False) -> dict[tuple[str, ...], int]:
    """Counts by metric name and labels."""
    return {
        (metric.name, *labels): count
        for metric, counts in snapshot.counts.items()
        for labels, count in counts.items()
        if count or zeros
    }


def test_counts_of_a_request(store: MetricsStore) -> None:
    """A finished request counts for its outcome, its tokens and its engine."""
    send_records(store, finished_record())
    assert list_counts(store.snapshot()) == {
        ("maxgate_requests_total", "/v1/x", "small", "ok"): 1,
        ("maxgate_tokens_total", "/v1/x", "small", "prompt"): 37,
        ("maxgate_tokens_total", "/v1/x", "small", "completion"): 5,
        ("maxgate_tokens_total", "/v1/x", "small", "cached"): 2,
        ("maxgate_engine_calls_total", "http://engine"): 2,
        ("maxgate_retries_total", "/v1/x", "small"): 1,
    }


@pytest.mark.parametrize(
    ("metric", "seconds"),
    [(REQUEST_DURATION, 1.0), (TIME_TO_FIRST_TOKEN, 0.1), (TIME_PER_OUTPUT_TOKEN, 0.1)],
    ids=lambda value: getattr(value, "name", None),
)
def test_times_of_a_request(store: MetricsStore, metric: Metric, seconds: float) -> None:
    """A successful stream counts in all three histograms."""
    send_records(store, finished_record())
    [(labels, histogram)] = store.snapshot().histograms[metric].items()
    assert labels == ("/v1/x", "small")
    assert histogram.total == pytest.approx(seconds)
    assert [n for n, count in enumerate(histogram.counts) if count] == [find_bucket(seconds)]


def test_failed_requests_are_not_timed(store: MetricsStore) -> None:
    """Only requests with outcome `ok` count in the histograms."""
    send_records(store, finished_record(outcome="truncated"))
    snapshot = store.snapshot()
    assert snapshot.sum_counts(REQUESTS, OUTCOME)["truncated"] == 1
    assert sum(snapshot.sum_histograms(REQUEST_DURATION).counts) == 0


def test_request_without_model_and_engine(store: MetricsStore) -> None:
    """Without a model, its label is empty; without an outcome, it is `internal_error`."""
    send_records(store, finished_record(model=None, engine=None, outcome=None))
    snapshot = store.snapshot()
    assert snapshot.counts[REQUESTS]["/v1/x", "", "internal_error"] == 1
    assert snapshot.counts[ENGINE_CALLS] == {}


def test_requests_in_flight(store: MetricsStore) -> None:
    """A request is in flight from start to end, and the gauge starts at zero."""
    assert store.snapshot().counts[REQUESTS_IN_FLIGHT] == {(): 0}
    store.request_started()
    store.request_started()
    store.request_finished(finished_record())
    assert store.snapshot().counts[REQUESTS_IN_FLIGHT] == {(): 1}


def test_queue_duration(store: MetricsStore) -> None:
    """A request with an engine call counts with its wait, also without one."""
    served, immediate = finished_record(), finished_record(outcome="truncated")
    immediate.queue_seconds = 0.0
    send_records(store, served, immediate, finished_record(engine=None))
    [(labels, histogram)] = store.snapshot().histograms[QUEUE_DURATION].items()
    assert (labels, histogram.total) == (("small",), 0.25)
    assert [n for n, count in enumerate(histogram.counts) if count] == [0, find_bucket(0.25)]


@pytest.mark.parametrize("engine", [None, "http://engine"])
@pytest.mark.parametrize("reason", get_args(Refusal))
def test_refused_request(store: MetricsStore, reason: Refusal, engine: str | None) -> None:
    """A refused request counts by reason, and not in the histogram of waits."""
    record = finished_record(engine=engine, outcome="unavailable")
    record.refusal = reason
    send_records(store, record)
    snapshot = store.snapshot()
    assert snapshot.sum_counts(REQUESTS_REFUSED, REFUSAL) == {
        **dict.fromkeys(get_args(Refusal), 0),
        reason: 1,
    }
    assert sum(snapshot.sum_histograms(QUEUE_DURATION).counts) == 0


def test_slots(store: MetricsStore) -> None:
    """Slots and the queue of a model are what was reported last."""
    store.set_slots("small", 8, 7, {"flex": 3, "default": 2})
    store.set_slots("small", 6, 5, {"default": 4})
    store.set_slots("large", 1, 0, {})
    assert list_counts(store.snapshot()) == {
        ("maxgate_slots", "small"): 6,
        ("maxgate_slots_in_use", "small"): 5,
        ("maxgate_queue_length", "small", "default"): 4,
        ("maxgate_slots", "large"): 1,
    }


def test_add(store: MetricsStore) -> None:
    """Any declared counter can be added to by its labels."""
    store.add(TOKENS, ("/v1/x", "small", "cached"), 5)
    store.add(ENGINE_CALLS, ("http://engine",))
    assert list_counts(store.snapshot()) == {
        ("maxgate_tokens_total", "/v1/x", "small", "cached"): 5,
        ("maxgate_engine_calls_total", "http://engine"): 1,
    }


def test_prepare(store: MetricsStore) -> None:
    """A prepared counter adds one with each call."""
    add_one = store.prepare(ENGINE_CALLS, ("http://engine",))
    add_one()
    add_one()
    assert list_counts(store.snapshot()) == {("maxgate_engine_calls_total", "http://engine"): 2}


def test_observe(store: MetricsStore) -> None:
    """Any declared histogram can take a duration."""
    store.observe(TIME_TO_FIRST_TOKEN, ("/v1/x", "small"), 0.3)
    histogram = store.snapshot().histograms[TIME_TO_FIRST_TOKEN]["/v1/x", "small"]
    assert (histogram.counts[find_bucket(0.3)], histogram.total) == (1, 0.3)


def test_many_models(store: MetricsStore) -> None:
    """After 63 combinations of route and model, further ones count as `other`."""
    send_records(store, *(finished_record(model=f"m{number}") for number in range(200)))
    models = store.snapshot().sum_counts(REQUESTS, MODEL)
    assert models == {**{f"m{number}": 1 for number in range(63)}, "other": 137}


def test_uptime() -> None:
    """Uptime counts from the start of the store."""
    clock = FakeClock()
    store = MetricsStore(clock)
    clock.advance(5)
    assert store.snapshot().uptime_seconds == 5.0


def count_and_exit(folder: Path, requests: int) -> None:
    """Count as a worker does; leave one request in flight."""
    store = MetricsStore(FakeClock(), folder)
    store.request_started()
    send_records(store, *[finished_record()] * requests)


def test_workers(tmp_path: Path) -> None:
    """Counts of dead workers remain; their requests in flight do not."""
    store = MetricsStore(FakeClock(), tmp_path)
    send_records(store, finished_record())
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=count_and_exit, args=(tmp_path, number)) for number in (2, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    snapshot = store.snapshot()
    assert snapshot.sum_counts(REQUESTS, OUTCOME)["ok"] == 6
    assert sum(snapshot.sum_histograms(REQUEST_DURATION).counts) == 6
    assert (snapshot.workers, snapshot.counts[REQUESTS_IN_FLIGHT]) == (1, {(): 0})


def test_replaced_workers(tmp_path: Path) -> None:
    """A new worker takes over the counts of those that have ended, and deletes their files."""
    context = multiprocessing.get_context("spawn")
    ended = context.Process(target=count_and_exit, args=(tmp_path, 2))
    ended.start()
    ended.join()
    before = [path.name for path in tmp_path.glob("*.metrics")]
    clock = FakeClock()
    clock.advance(400)
    snapshot = MetricsStore(clock, tmp_path).snapshot()
    assert before == [f"{ended.pid}.metrics"]
    assert [path.name for path in tmp_path.glob("*.metrics")] == [f"{os.getpid()}.metrics"]
    assert snapshot.sum_counts(REQUESTS, OUTCOME)["ok"] == 2
    assert snapshot.counts[REQUESTS_IN_FLIGHT] == {(): 0}
    assert sum(snapshot.sum_histograms(REQUEST_DURATION).counts) == 2
    assert snapshot.uptime_seconds == 400


def test_reused_process_id(tmp_path: Path) -> None:
    """A worker with the process id of an earlier one goes on with its counts."""
    send_records(MetricsStore(FakeClock(), tmp_path), finished_record())
    store = MetricsStore(FakeClock(), tmp_path)
    send_records(store, finished_record())
    assert store.snapshot().sum_counts(REQUESTS, OUTCOME)["ok"] == 2


def test_foreign_files(tmp_path: Path) -> None:
    """Incomplete files and files of another version are ignored."""
    store = MetricsStore(FakeClock(), tmp_path)
    (tmp_path / "1.metrics").write_bytes(b"")
    layout = Layout([REQUESTS_IN_FLIGHT])
    other = CounterFile(layout, 0, tmp_path / "2.metrics")
    other.counts[other.rows[layout.tables[0]][()]] = 7
    snapshot = store.snapshot()
    assert (snapshot.workers, list_counts(snapshot)) == (1, {})


def test_unreadable_files(tmp_path: Path) -> None:
    """Folders, named pipes, broken links and files whose reading fails are skipped."""
    store = MetricsStore(FakeClock(), tmp_path)
    (tmp_path / "0.metrics").mkdir()
    (tmp_path / "1.metrics").symlink_to("deleted")
    os.mkfifo(tmp_path / "2.metrics")
    (tmp_path / "3.metrics").symlink_to("/proc/self/mem")
    send_records(store, finished_record())
    assert store.snapshot().sum_counts(REQUESTS, OUTCOME)["ok"] == 1


def test_file_that_cannot_be_created(tmp_path: Path) -> None:
    """The error names the setting, the file and the reason."""
    path = tmp_path / f"{os.getpid()}.metrics"
    path.mkdir()
    with pytest.raises(ConfigurationError) as caught:
        MetricsStore(FakeClock(), tmp_path)
    assert str(caught.value) == f"setting telemetry.metrics_dir: {path}: Is a directory"


def test_folder_that_cannot_be_created(tmp_path: Path) -> None:
    """The error names the setting, the folder and the reason."""
    (tmp_path / "file").touch()
    with pytest.raises(
        ConfigurationError, match=r"setting telemetry\.metrics_dir: .*file/m: Not a directory"
    ):
        MetricsStore(FakeClock(), tmp_path / "file" / "m")


def write_stat(folder: Path, name: str, *, user: int = 0, system: int = 0, pages: int = 0) -> None:
    """Write one process of a fake procfs."""
    fields = ["S", *["0"] * 10, str(user), str(system), *["0"] * 8, str(pages), "0"]
    (folder / name).mkdir()
    (folder / name / "stat").write_text(f"1 (a) name (x) {' '.join(fields)}\n")


def test_process_usage(tmp_path: Path) -> None:
    """Processes add up, and one that has ended is skipped."""
    write_stat(tmp_path, "self")
    write_stat(tmp_path, "7", user=3 * TICKS, system=1 * TICKS, pages=10)
    write_stat(tmp_path, "8", user=2 * TICKS, pages=5)
    assert read_process_usage([7, 8, 9], tmp_path) == ProcessUsage(6.0, 15 * PAGE)


def test_open_files(tmp_path: Path) -> None:
    """The file descriptors are those of the worker that is closest to its limit."""
    write_stat(tmp_path, "self")
    for name, opened, limit in (("7", 3, 100), ("8", 2, 10)):
        write_stat(tmp_path, name)
        (tmp_path / name / "limits").write_text(f"Max open files     {limit}     4096     files\n")
        (tmp_path / name / "fd").mkdir()
        for number in range(opened):
            (tmp_path / name / "fd" / str(number)).touch()
    assert read_process_usage([7, 8], tmp_path) == ProcessUsage(0.0, 0, 2, 10)


def test_process_usage_without_procfs(tmp_path: Path) -> None:
    """Without procfs, the usage is unknown."""
    assert read_process_usage([7], tmp_path) is None


def test_process_usage_of_this_process() -> None:
    """The real procfs has the expected format."""
    usage = read_process_usage([os.getpid()])
    assert usage is not None
    assert usage.cpu_seconds > 0
    assert usage.resident_bytes > 1_000_000
    assert 0 < usage.open_files < usage.max_files


def test_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker on a full disk reports its own counts beside those of the others."""
    send_records(MetricsStore(FakeClock(), tmp_path), finished_record())
    (tmp_path / f"{os.getpid()}.metrics").rename(tmp_path / "1.metrics")

    def fail(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail, raising=False)
    store = MetricsStore(FakeClock(), tmp_path)
    send_records(store, finished_record())
    assert store.snapshot().sum_counts(REQUESTS, OUTCOME)["ok"] == 2
