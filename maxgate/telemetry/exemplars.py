"""Exemplars: for each bucket of the latency histograms, the trace of a request that fell into it.

Each worker writes the exemplars of its requests to a file of its own in the folder of the workers'
metrics, and a reader takes the latest of all files. They exist only while tracing is on.
"""

import mmap
import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from typing_extensions import override

from maxgate.clock import Clock
from maxgate.generation.request_record import RequestRecord, RequestSink
from maxgate.telemetry.counter_file import allocate
from maxgate.telemetry.histogram import EXPOSED_BOUNDS
from maxgate.telemetry.metrics_store import is_running
from maxgate.telemetry.registry import (
    QUEUE_DURATION,
    REQUEST_DURATION,
    TIME_PER_OUTPUT_TOKEN,
    TIME_TO_FIRST_TOKEN,
    LabelValues,
    Metric,
)

SUFFIX: Final = ".exemplars"
"""Of the files, whose names are process ids."""
_METRICS: Final = (REQUEST_DURATION, TIME_TO_FIRST_TOKEN, TIME_PER_OUTPUT_TOKEN, QUEUE_DURATION)
_SLOTS: Final = 1024
_SLOT_BYTES: Final = 256
# Checksum of the rest; then trace id, value, time, number of the metric, bucket, labels.
_CHECKSUM: Final = struct.Struct("<I")
_FIELDS: Final = struct.Struct("<16sddBB202p")


class Exemplar(NamedTuple):
    """A request's trace and its value of a histogram, both in seconds; `at` is since 1970."""

    trace_id: str
    seconds: float
    at: float


Exemplars = Mapping[Metric, Mapping[LabelValues, Mapping[int, Exemplar]]]
"""Exemplars by metric, label values and the position of their bucket in EXPOSED_BOUNDS."""


class ExemplarStore(RequestSink):
    """Keeps the exemplars of this worker, and reads those of all workers.

    Without a folder, or if it has no room, they are in this process's memory. Series beyond the
    room of a file have no exemplars.
    """

    def __init__(self, clock: Clock, folder: Path | None = None) -> None:
        self._clock = clock
        self._folder = folder
        self._slots: dict[tuple[int, LabelValues, int], int] = {}
        self._memory = self._map_memory()

    def _map_memory(self) -> mmap.mmap:
        size = _SLOTS * _SLOT_BYTES
        if self._folder is not None:
            for path in self._folder.glob(f"*{SUFFIX}"):
                if path.stem.isdigit() and not is_running(int(path.stem)):
                    with suppress(OSError):
                        path.unlink()
            try:
                with (self._folder / f"{os.getpid()}{SUFFIX}").open("w+b") as file:
                    allocate(file.fileno(), size)
                    return mmap.mmap(file.fileno(), size)
            except OSError as error:
                structlog.get_logger("telemetry").warning(
                    "exemplars of this worker are not shared", error=str(error)
                )
                self._folder = None
        return mmap.mmap(-1, size)

    @override
    def request_started(self) -> None:
        """Do nothing."""

    @override
    def request_finished(self, record: RequestRecord) -> None:
        if record.trace is None or not record.trace.is_sampled:
            return
        trace_id, model = bytes.fromhex(record.trace.hex_id), record.model or ""
        if record.refusal is None and record.engine is not None:
            self._note(3, (model,), trace_id, record.queue_seconds)
        if record.outcome != "ok":
            return
        labels = (record.route, model)
        self._note(0, labels, trace_id, record.duration)
        if (seconds := record.time_to_first_token) is not None:
            self._note(1, labels, trace_id, seconds)
        if (seconds := record.time_per_output_token) is not None:
            self._note(2, labels, trace_id, seconds)

    def _note(self, metric: int, labels: LabelValues, trace_id: bytes, seconds: float) -> None:
        bucket = bisect_left(EXPOSED_BOUNDS, seconds)
        key = (metric, labels, bucket)
        slot = self._slots.get(key)
        if slot is None:
            if len(self._slots) >= _SLOTS:
                return
            slot = self._slots[key] = len(self._slots) * _SLOT_BYTES
        text = "\t".join(labels).encode()
        fields = _FIELDS.pack(trace_id, seconds, self._clock.wall(), metric, bucket, text)
        content = _CHECKSUM.pack(zlib.crc32(fields)) + fields
        self._memory[slot : slot + len(content)] = content

    def read(self) -> Exemplars:
        """Read the latest exemplars of all workers."""
        found: dict[Metric, dict[LabelValues, dict[int, Exemplar]]] = {}
        for content in self._read_files():
            for start in range(0, len(content), _SLOT_BYTES):
                parsed = _parse_slot(content, start)
                if parsed is None:
                    continue
                metric, labels, bucket, exemplar = parsed
                buckets = found.setdefault(metric, {}).setdefault(labels, {})
                if bucket not in buckets or buckets[bucket].at < exemplar.at:
                    buckets[bucket] = exemplar
        return found

    def _read_files(self) -> Iterator[bytes]:
        if self._folder is None:
            yield self._memory[:]
            return
        for path in self._folder.glob(f"*{SUFFIX}"):
            with suppress(OSError):
                yield path.read_bytes()


def _parse_slot(content: bytes, start: int) -> tuple[Metric, LabelValues, int, Exemplar] | None:
    """Parse a slot; None if it is unused, or written at this moment."""
    fields = content[start + _CHECKSUM.size : start + _CHECKSUM.size + _FIELDS.size]
    checksum = content[start : start + _CHECKSUM.size]
    if len(fields) < _FIELDS.size or checksum != _CHECKSUM.pack(zlib.crc32(fields)):
        return None
    trace_id, seconds, at, metric, bucket, text = _FIELDS.unpack(fields)
    labels = tuple(text.decode(errors="replace").split("\t"))
    return _METRICS[metric], labels, bucket, Exemplar(trace_id.hex(), seconds, at)
