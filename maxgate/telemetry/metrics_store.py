"""Counts that every worker process keeps for itself and any of them can add up.

Each worker writes to a file of its own in a shared folder, mapped into memory: counting is a few
additions without a lock or a system call, and a reader sums the files. What a worker counted stays
when it dies; only its requests in flight are gone.
"""

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from maxgate.clock import Clock
from maxgate.errors import ConfigurationError
from maxgate.generation.request_record import RequestRecord
from maxgate.telemetry.histogram import BUCKETS, find_bucket
from maxgate.telemetry.snapshot import OUTCOMES, TIMINGS, TOKENS, ProcessUsage, Series, Snapshot


def read_process_usage(pids: Iterable[int], proc: Path = Path("/proc")) -> ProcessUsage | None:
    """Processor time and memory of these processes together; None where there is no procfs.

    A process that ends meanwhile is left out. Fields are those of proc(5), `stat`: 14 and 15 for
    user and system time in clock ticks, 24 for resident pages.
    """
    if not (proc / "self" / "stat").exists():
        return None
    seconds, resident = 0.0, 0
    for pid in pids:
        try:
            stat = (proc / str(pid) / "stat").read_text()
        except OSError:
            continue
        # The second field is a name in brackets, which may itself have blanks and brackets.
        fields = stat.rpartition(") ")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        resident += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return ProcessUsage(seconds, resident)


_WORD: Final = 8
_KEY_WORDS: Final = 32
_ROWS: Final = 64
# Header, in words.
_PID, _IN_FLIGHT, _ROWS_USED, _STARTED = range(4)
_HEADER_WORDS: Final = 4
# Row, in words: key, outcomes, tokens, then per timing its buckets and its sum.
_OUTCOMES_AT: Final = _KEY_WORDS
_TOKENS_AT: Final = _OUTCOMES_AT + len(OUTCOMES)
_TIMINGS_AT: Final = _TOKENS_AT + len(TOKENS)
_TIMING_WORDS: Final = BUCKETS + 1
_ROW_WORDS: Final = _TIMINGS_AT + len(TIMINGS) * _TIMING_WORDS
_FILE_BYTES: Final = _WORD * (_HEADER_WORDS + _ROWS * _ROW_WORDS)
_OUTCOME_INDEX: Final = {outcome: index for index, outcome in enumerate(OUTCOMES)}


def make_folder(folder: Path) -> None:
    """Make the folder that workers count in.

    Raises ConfigurationError where it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"setting telemetry.metrics_dir: {folder}: {error.strerror}"
        ) from error


class MetricsStore:
    """A sink that counts requests, and the sum over all workers.

    `folder` is shared by the workers of one gateway; without one, this process counts alone.
    Routes and models come from fixed sets; beyond 64 pairs of them, new ones are counted as one.

    Raises ConfigurationError as make_folder does.
    """

    def __init__(self, clock: Clock, folder: Path | None = None) -> None:
        self._clock = clock
        self._folder = folder
        self._memory = self._open(folder)
        self._counts = memoryview(self._memory).cast("q")
        self._sums = memoryview(self._memory).cast("d")
        self._rows: dict[tuple[str, str], int] = {}
        self._counts[_PID] = os.getpid()
        self._sums[_STARTED] = clock.wall()

    @staticmethod
    def _open(folder: Path | None) -> mmap.mmap:
        if folder is None:
            return mmap.mmap(-1, _FILE_BYTES)
        make_folder(folder)
        with (folder / f"{os.getpid()}.metrics").open("w+b") as file:
            file.truncate(_FILE_BYTES)
            return mmap.mmap(file.fileno(), _FILE_BYTES)

    @property
    def in_flight(self) -> int:
        """Requests that this worker is answering."""
        return self._counts[_IN_FLIGHT]

    def request_started(self) -> None:
        """See Sink."""
        self._counts[_IN_FLIGHT] += 1

    def request_finished(self, record: RequestRecord) -> None:
        """See Sink."""
        counts = self._counts
        counts[_IN_FLIGHT] -= 1
        row = self._row(record.route, record.model or "")
        counts[row + _OUTCOMES_AT + _OUTCOME_INDEX[record.outcome or "internal_error"]] += 1
        counts[row + _TOKENS_AT] += record.prompt_tokens
        counts[row + _TOKENS_AT + 1] += record.completion_tokens
        counts[row + _TOKENS_AT + 2] += record.cached_tokens
        if record.outcome == "ok":
            self._time(row, 0, record.duration)
            self._time(row, 1, record.time_to_first_token)
            self._time(row, 2, record.time_per_output_token)

    def _time(self, row: int, timing: int, seconds: float | None) -> None:
        if seconds is not None:
            start = row + _TIMINGS_AT + timing * _TIMING_WORDS
            self._counts[start + find_bucket(seconds)] += 1
            self._sums[start + BUCKETS] += seconds

    def _row(self, route: str, model: str) -> int:
        row = self._rows.get((route, model))
        return self._new_row(route, model) if row is None else row

    def _new_row(self, route: str, model: str) -> int:
        used = self._counts[_ROWS_USED]
        if used >= _ROWS - 1 and (route, model) != ("other", "other"):
            return self._row("other", "other")
        row = _HEADER_WORDS + used * _ROW_WORDS
        key = f"{route}\t{model}".encode()[: _KEY_WORDS * _WORD]
        self._memory[row * _WORD : row * _WORD + len(key)] = key
        self._counts[_ROWS_USED] = used + 1
        self._rows[route, model] = row
        return row

    def snapshot(self) -> Snapshot:
        """What all workers have counted so far."""
        series: dict[tuple[str, str], Series] = {}
        pids: list[int] = []
        in_flight = 0
        started = self._sums[_STARTED]
        for counts, sums, keys in self._workers():
            started = min(started, sums[_STARTED])
            if _is_running(counts[_PID]):
                pids.append(counts[_PID])
                in_flight += counts[_IN_FLIGHT]
            for one in _read_rows(counts, sums, keys):
                series.setdefault((one.route, one.model), Series(one.route, one.model)).add(one)
        return Snapshot(
            series=[series[key] for key in sorted(series)],
            in_flight=in_flight,
            workers=len(pids),
            uptime_seconds=self._clock.wall() - started,
            processes=read_process_usage(pids),
        )

    def _workers(self) -> Iterator[tuple["memoryview[int]", "memoryview[float]", bytes]]:
        if self._folder is None:
            yield self._counts, self._sums, self._memory[:]
            return
        for file in sorted(self._folder.glob("*.metrics")):
            content = file.read_bytes()
            if len(content) == _FILE_BYTES:
                yield memoryview(content).cast("q"), memoryview(content).cast("d"), content


def _read_rows(
    counts: "memoryview[int]", sums: "memoryview[float]", content: bytes
) -> Iterator[Series]:
    for number in range(counts[_ROWS_USED]):
        row = _HEADER_WORDS + number * _ROW_WORDS
        key = content[row * _WORD : (row + _KEY_WORDS) * _WORD].rstrip(b"\0")
        route, _, model = key.decode(errors="replace").partition("\t")
        series = Series(route, model)
        for index, outcome in enumerate(OUTCOMES):
            series.outcomes[outcome] = counts[row + _OUTCOMES_AT + index]
        for index, kind in enumerate(TOKENS):
            series.tokens[kind] = counts[row + _TOKENS_AT + index]
        for index, name in enumerate(TIMINGS):
            start = row + _TIMINGS_AT + index * _TIMING_WORDS
            series.timings[name].add(
                counts[start : start + BUCKETS].tolist(), sums[start + BUCKETS]
            )
        yield series


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
