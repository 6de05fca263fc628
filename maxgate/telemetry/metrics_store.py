"""Counts of all worker processes.

Each worker counts in a file of its own in a shared folder, and a reader sums the files. Counters
and histograms of a worker that has ended still count; its gauges do not. The next worker that
starts takes over its counts and deletes its file.
"""

import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog
from typing_extensions import override

from maxgate.clock import Clock
from maxgate.errors import ConfigurationError, OutOfResources
from maxgate.generation.request_record import RequestRecord, RequestSink
from maxgate.net.shortage import find_shortage
from maxgate.telemetry.counter_file import DISK_FULL, CounterFile, CounterReader
from maxgate.telemetry.histogram import BUCKETS, find_bucket
from maxgate.telemetry.layout import STARTED_AT, Layout
from maxgate.telemetry.registry import (
    BILLED_REQUESTS,
    CONTINUATIONS,
    COSTS,
    ENGINE_CALLS,
    METRICS,
    OUT_OF_RESOURCES,
    QUEUE_DURATION,
    QUEUE_LENGTH,
    REQUEST_DURATION,
    REQUESTS,
    REQUESTS_IN_FLIGHT,
    REQUESTS_REFUSED,
    RETRIES,
    REVENUE,
    SLOTS,
    SLOTS_IN_USE,
    TIME_PER_OUTPUT_TOKEN,
    TIME_TO_FIRST_TOKEN,
    TOKENS,
    LabelValues,
    Metric,
)
from maxgate.telemetry.snapshot import ProcessUsage, Snapshot

_log = structlog.get_logger("telemetry")

_LAYOUT: Final = Layout(metric for metric in METRICS if metric.stored)

# Offsets for request_finished, looked up once.
_REQUESTS_BY_ROUTE: Final = _LAYOUT.table_of[REQUESTS]
_OUTCOMES: Final = {values[0]: at for values, at in _REQUESTS_BY_ROUTE.offsets[REQUESTS].items()}
_PROMPT, _COMPLETION, _CACHED = _REQUESTS_BY_ROUTE.offsets[TOKENS].values()
_RETRIES: Final = _REQUESTS_BY_ROUTE.offsets[RETRIES][()]
_CONTINUATIONS: Final = _REQUESTS_BY_ROUTE.offsets[CONTINUATIONS][()]
_DURATION: Final = _REQUESTS_BY_ROUTE.offsets[REQUEST_DURATION][()]
_FIRST_TOKEN: Final = _REQUESTS_BY_ROUTE.offsets[TIME_TO_FIRST_TOKEN][()]
_OUTPUT_TOKEN: Final = _REQUESTS_BY_ROUTE.offsets[TIME_PER_OUTPUT_TOKEN][()]
_BY_ENGINE: Final = _LAYOUT.table_of[ENGINE_CALLS]
_ENGINE_CALLS: Final = _BY_ENGINE.offsets[ENGINE_CALLS][()]
_BY_MODEL: Final = _LAYOUT.table_of[QUEUE_DURATION]
_QUEUE: Final = _BY_MODEL.offsets[QUEUE_DURATION][()]
_BY_PROJECT: Final = _LAYOUT.table_of[REVENUE]
_BILLED: Final = _BY_PROJECT.offsets[BILLED_REQUESTS][()]
_REVENUE: Final = _BY_PROJECT.offsets[REVENUE][()]
_COSTS: Final = _BY_PROJECT.offsets[COSTS][()]

SUFFIX: Final = ".metrics"
"""Of the files in the shared folder, whose names are process ids."""


def make_folder(folder: Path) -> None:
    """Create the shared folder for the workers' counts.

    A full disk is no error: workers that find it full count in their own memory.

    Raises ConfigurationError if it cannot be created or is not writable.
    """
    with _report_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def _report_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            return
        raise ConfigurationError(
            f"setting telemetry.metrics_dir: {path}: {error.strerror}"
        ) from error


class MetricsStore(RequestSink):
    """Counts requests of this worker, and reads the counts of all workers.

    `folder` is shared by the workers of one gateway; without it, this process counts alone.

    Raises ConfigurationError as make_folder does, and if this worker's file cannot be created.
    """

    def __init__(self, clock: Clock, folder: Path | None = None) -> None:
        self._clock = clock
        self._folder = folder
        if folder is None:
            self._file = CounterFile(_LAYOUT, clock.wall())
        else:
            make_folder(folder)
            path = folder / f"{os.getpid()}{SUFFIX}"
            with _lock(folder, fcntl.LOCK_EX):
                ended = list(_read_ended(folder))
                with _report_errors(path):
                    self._file = CounterFile(_LAYOUT, clock.wall(), path)
                if self._file.error is None:
                    self._take_over(path, ended)
                else:
                    _log.warning("metrics of this worker are not shared", error=self._file.error)
        self._counts = self._file.counts
        self._sums = self._file.sums
        self._request_rows = self._file.rows[_REQUESTS_BY_ROUTE]
        self._engine_rows = self._file.rows[_BY_ENGINE]
        self._model_rows = self._file.rows[_BY_MODEL]
        self._in_flight = self._find_word(REQUESTS_IN_FLIGHT, ())
        self._out_of_resources = self._find_word(OUT_OF_RESOURCES, ())

    def _take_over(self, own: Path, ended: Iterable[tuple[Path, CounterReader]]) -> None:
        """Add the counts of workers that have ended, and delete their files."""
        counts, sums = self._file.counts, self._file.sums
        for path, worker in ended:
            if path != own:  # an earlier process with our id; its file is ours now
                try:
                    path.unlink()
                except OSError:
                    continue  # its file still counts
            sums[STARTED_AT] = min(sums[STARTED_AT], worker.started_at)
            for metric, labels, count in worker.read_counts():
                if metric.kind != "gauge":
                    counts[self._find_word(metric, labels)] += count
            for metric, labels, histogram in worker.read_histograms():
                word = self._find_word(metric, labels)
                for bucket, count in enumerate(histogram.counts):
                    counts[word + bucket] += count
                sums[word + BUCKETS] += histogram.total

    def add(self, metric: Metric, labels: LabelValues = (), value: int = 1) -> None:
        """Add to a counter or gauge. `labels` are in the order of the metric's declaration."""
        self._counts[self._find_word(metric, labels)] += value

    def prepare(self, metric: Metric, labels: LabelValues = ()) -> Callable[[], None]:
        """Return a function that adds one to a counter, for what happens in every request."""
        counts, word = self._counts, self._find_word(metric, labels)

        def add_one() -> None:
            counts[word] += 1

        return add_one

    def set_gauge(self, metric: Metric, labels: LabelValues, value: int) -> None:
        """Set this worker's part of a gauge; the parts of running workers are added up."""
        self._counts[self._find_word(metric, labels)] = value

    def set_slots(self, model: str, slots: int, in_use: int, waiting: Mapping[str, int]) -> None:
        """Report this worker's slots of a model, and its waiting requests by service class.

        Classes that `waiting` lacks have none.
        """
        self.set_gauge(SLOTS, (model,), slots)
        self.set_gauge(SLOTS_IN_USE, (model,), in_use)
        for (service_class,) in _BY_MODEL.offsets[QUEUE_LENGTH]:
            self.set_gauge(QUEUE_LENGTH, (model, service_class), waiting.get(service_class, 0))

    def add_revenue(self, project: str, model: str, *, price: int, cost: int) -> None:
        """Count a request that reached a model; both amounts are in billionths."""
        counts, row = self._counts, self._file.rows[_BY_PROJECT][project, model]
        counts[row + _BILLED] += 1
        counts[row + _REVENUE] += price
        counts[row + _COSTS] += cost

    def observe(self, metric: Metric, labels: LabelValues, seconds: float) -> None:
        """Add a duration to a histogram."""
        self._observe(self._find_word(metric, labels), seconds)

    def _find_word(self, metric: Metric, labels: LabelValues) -> int:
        table = _LAYOUT.table_of[metric]
        split = len(table.labels)
        return self._file.rows[table][labels[:split]] + table.offsets[metric][labels[split:]]

    def _observe(self, word: int, seconds: float) -> None:
        self._counts[word + find_bucket(seconds)] += 1
        self._sums[word + BUCKETS] += seconds

    @override
    def request_started(self) -> None:
        self._counts[self._in_flight] += 1

    @override
    def request_finished(self, record: RequestRecord) -> None:
        # Runs for every request: one row lookup, then additions at fixed offsets.
        counts = self._counts
        counts[self._in_flight] -= 1
        row = self._request_rows[record.route, record.model or ""]
        counts[row + _OUTCOMES[record.outcome or "internal_error"]] += 1
        counts[row + _PROMPT] += record.prompt_tokens
        counts[row + _COMPLETION] += record.completion_tokens
        counts[row + _CACHED] += record.cached_tokens
        counts[row + _RETRIES] += record.retries
        counts[row + _CONTINUATIONS] += record.continuations
        if record.engine is not None:
            counts[self._engine_rows[record.engine,] + _ENGINE_CALLS] += record.engine_calls
        if record.refusal is not None:
            self.add(REQUESTS_REFUSED, (record.model or "", record.refusal))
        elif record.engine is not None:
            self._observe(self._model_rows[record.model or "",] + _QUEUE, record.queue_seconds)
        if record.outcome == "ok":
            self._observe(row + _DURATION, record.duration)
            if (seconds := record.time_to_first_token) is not None:
                self._observe(row + _FIRST_TOKEN, seconds)
            if (seconds := record.time_per_output_token) is not None:
                self._observe(row + _OUTPUT_TOKEN, seconds)
        elif record.error_code == OutOfResources.default_code:
            counts[self._out_of_resources] += 1

    def snapshot(self) -> Snapshot:
        """Sum the counts of all workers."""
        snapshot = Snapshot()
        pids: list[int] = []
        started_at = self._clock.wall()
        for worker in self._read_workers():
            started_at = min(started_at, worker.started_at)
            running = is_running(worker.pid)
            if running:
                pids.append(worker.pid)
            for metric, labels, count in worker.read_counts():
                if running or metric.kind != "gauge":
                    snapshot.add_count(metric, labels, count)
            for metric, labels, histogram in worker.read_histograms():
                snapshot.add_histogram(metric, labels, histogram)
        snapshot.workers = len(pids)
        snapshot.uptime_seconds = self._clock.wall() - started_at
        snapshot.processes = read_process_usage(pids)
        return snapshot

    def _read_workers(self) -> Iterator[CounterReader]:
        if self._folder is not None:
            with _lock(self._folder, fcntl.LOCK_SH):
                workers = list(_read_files(self._folder))
            yield from (worker for _, worker in workers)
        if self._folder is None or self._file.error is not None:
            worker = CounterReader.open(_LAYOUT, self._file.read())
            if worker is not None:
                yield worker


@contextmanager
def _lock(folder: Path, kind: int) -> Iterator[None]:
    """Keep others from taking over files (shared lock) or from reading them (exclusive lock)."""
    descriptor = None
    try:
        with suppress(OSError):  # read-only, or a file system without locks
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(descriptor, kind)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _read_files(folder: Path) -> Iterator[tuple[Path, CounterReader]]:
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if not path.is_file():  # reading a named pipe would block
            continue
        try:
            content = path.read_bytes()
        except OSError as error:  # it may have been deleted since
            if find_shortage(error) is not None:
                raise  # counters must not seem to fall
            continue
        worker = CounterReader.open(_LAYOUT, content)
        if worker is not None:
            yield path, worker


def _read_ended(folder: Path) -> Iterator[tuple[Path, CounterReader]]:
    for path, worker in _read_files(folder):
        if worker.pid == os.getpid() or not is_running(worker.pid):
            yield path, worker


def is_running(pid: int) -> bool:
    """Return whether there is a process with this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_process_usage(pids: Iterable[int], proc: Path = Path("/proc")) -> ProcessUsage | None:
    """Sum CPU time and memory of these processes; None on systems without procfs.

    Processes that have ended are skipped. Fields of /proc/PID/stat are those of proc(5): 14 and 15
    are user and system time in clock ticks, 24 is resident pages.
    """
    if not (proc / "self" / "stat").exists():
        return None
    seconds, resident, files = 0.0, 0, (0, 0)
    for pid in pids:
        try:
            stat = (proc / str(pid) / "stat").read_text()
        except OSError:
            continue
        # Field 2 is the process name in brackets, which may contain blanks and brackets.
        fields = stat.rpartition(") ")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        resident += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        files = max(files, _count_files(proc / str(pid)), key=lambda f: f[0] / max(f[1], 1))
    return ProcessUsage(seconds, resident, *files)


def _count_files(process: Path) -> tuple[int, int]:
    """Return open file descriptors and their soft limit; zeros if they cannot be read."""
    try:
        limits = (process / "limits").read_text()
        opened = sum(1 for _ in (process / "fd").iterdir())
    except OSError:
        return 0, 0
    soft = re.search(r"^Max open files +(\d+)", limits, re.MULTILINE)
    return (opened, int(soft[1])) if soft else (0, 0)
