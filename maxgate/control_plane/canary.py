"""The canary of all workers, in the process that owns the list of engines."""

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, NamedTuple, NoReturn
from uuid import uuid4

import structlog
from typing_extensions import override

from maxgate.api.admin.canary import Canary, CanaryControl, NewCanary, canary_runs, no_canary
from maxgate.canary.samples import Sample, WorkerReport
from maxgate.canary.verdict import compare_times, estimate_share, judge, measure_agreement
from maxgate.canary.worker import LEASE, WorkerCanary
from maxgate.control_plane.controller import parse_engine
from maxgate.control_plane.errors import ChangesNotSupported
from maxgate.errors import InvalidRequest
from maxgate.upstream.settings import DNS_PREFIX, hide_credentials

_log = structlog.get_logger("control_plane")


class CanaryOrder(NamedTuple):
    """A request for the reports of all workers: keep the canary, or end it without `canary`.

    `after` has the number of samples that each worker, by process id, has reported so far.
    """

    id: str
    canary: NewCanary | None
    after: Mapping[int, int]


CollectReports = Callable[[CanaryOrder], Awaitable[Mapping[int, WorkerReport]]]


class CanaryController(CanaryControl):
    """Keeps the samples of all workers, also of those that have ended.

    `collect` passes an order to all workers and returns their reports by process id. `time` returns
    seconds.
    """

    def __init__(self, collect: CollectReports, time: Callable[[], float] = monotonic) -> None:
        self._collect = collect
        self._time = time
        self._run: _Run | None = None

    @override
    async def start_canary(self, canary: NewCanary) -> Canary:
        settings = parse_engine({"url": canary.url, "ca_file": canary.ca_file})
        if settings.url.startswith(DNS_PREFIX):
            raise InvalidRequest(
                "A canary is one engine. Write its URL without 'dns+'.",
                param="url",
                code="invalid_engine",
            )
        running = self._find_run()
        if running is not None:
            raise canary_runs(hide_credentials(running.canary.url))
        self._run = _Run(canary.model_copy(update={"url": settings.url}), self._time())
        _log.info("canary started", engine=settings.public_url, share=canary.share)
        return await self.read_canary()

    @override
    async def read_canary(self) -> Canary:
        run = self._find_run()
        if run is None:
            raise no_canary()
        run.expires_at = self._time() + LEASE
        return await self._update(run, run.canary)

    @override
    async def stop_canary(self) -> Canary:
        run = self._find_run()
        if run is None:
            raise no_canary()
        self._run = None
        return await self._update(run, None)

    async def call(self, action: str, arguments: dict[str, Any]) -> Canary:
        """Make the call that a worker has forwarded."""
        if action == "start_canary":
            return await self.start_canary(NewCanary.model_validate(arguments))
        return await (self.stop_canary() if action == "stop_canary" else self.read_canary())

    def _find_run(self) -> "_Run | None":
        if self._run is not None and self._time() >= self._run.expires_at:
            self._run = None
        return self._run

    async def _update(self, run: "_Run", canary: NewCanary | None) -> Canary:
        after = {pid: len(samples) for pid, samples in run.samples.items()}
        reports = await self._collect(CanaryOrder(run.id, canary, after))
        run.add(reports, after)
        return run.summarize(self._time(), len(reports))


class _Run:
    """One canary and what the workers have reported."""

    def __init__(self, canary: NewCanary, now: float) -> None:
        self.id = uuid4().hex
        self.canary = canary
        self.expires_at = now + LEASE
        self.samples: dict[int, list[Sample]] = {}
        self._started_at = now
        self._reports: dict[int, WorkerReport] = {}

    def add(self, reports: Mapping[int, WorkerReport], after: Mapping[int, int]) -> None:
        """Add the reports of workers; two requests at a time may have got the same samples."""
        for pid, report in reports.items():
            samples = self.samples.setdefault(pid, [])
            samples[after.get(pid, 0) :] = report.samples
            self._reports[pid] = report

    def summarize(self, now: float, workers: int) -> Canary:
        """Return the result so far."""
        canary, reports = self.canary, list(self._reports.values())
        samples = [sample for reported in self.samples.values() for sample in reported]
        skipped: Counter[str] = Counter()
        for report in reports:
            skipped.update(report.skipped)
        causes = Counter(sample.error for sample in samples if sample.error is not None)
        completed = [sample for sample in samples if sample.new is not None]
        failed = causes.total()
        agreement = measure_agreement(samples, canary.near_tie) if canary.mirror else None
        times = compare_times(samples, paired=canary.mirror)
        errors = estimate_share(failed, failed + len(completed))
        halted, ready = any(r.halted for r in reports), any(r.models for r in reports)
        checks, verdict = judge(canary, agreement, times, errors, halted=halted)
        return Canary(
            id=self.id,
            url=hide_credentials(canary.url),
            mirror=canary.mirror,
            share=canary.share,
            state="halted" if halted else "running" if ready else "starting",
            error=next((report.error for report in reports if report.error), None),
            workers=workers,
            seconds=now - self._started_at,
            requests=canary.requests,
            completed=failed + len(completed),
            in_progress=sum(report.in_progress for report in reports),
            seen=sum(report.seen for report in reports),
            skipped=dict(sorted(skipped.items())),
            errors=failed,
            causes={str(cause): count for cause, count in sorted(causes.items(), key=str)},
            agreement=agreement,
            times=times,
            checks=checks,
            verdict=verdict,
        )


def build_single_process_canary(worker: WorkerCanary) -> CanaryController:
    """Build the control of the canary of a gateway that is one process."""
    pid = os.getpid()

    async def collect(order: CanaryOrder) -> Mapping[int, WorkerReport]:
        return {pid: worker.report(order.id, order.canary, order.after.get(pid, 0))}

    return CanaryController(collect)


class UnsupportedCanary(CanaryControl):
    """Refuses a canary in one of several workers, which cannot reach the others."""

    @override
    async def start_canary(self, canary: NewCanary) -> NoReturn:
        raise ChangesNotSupported

    @override
    async def read_canary(self) -> NoReturn:
        raise ChangesNotSupported

    @override
    async def stop_canary(self) -> NoReturn:
        raise ChangesNotSupported
