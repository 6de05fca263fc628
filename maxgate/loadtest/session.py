"""One run, from the first question to the last level."""

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from maxgate.errors import ConfigurationError
from maxgate.loadtest.analysis.level_report import LevelPlan, level_report
from maxgate.loadtest.analysis.saturation import next_step, saturation
from maxgate.loadtest.calibration import (
    Cadence,
    client_errors,
    measure_cadence,
    median_output_tokens,
    merge_client_errors,
    widen_by_lag,
)
from maxgate.loadtest.messages import Job, LoadShape, Progress, RequestShape, Target
from maxgate.loadtest.mock_server.server import fetch_timestamps, start_mock_server
from maxgate.loadtest.options import LevelSpec, Options, plan_levels
from maxgate.loadtest.worker_pool import Outcome, WorkerPool
from maxgate.results.distribution import ClientError
from maxgate.results.records import Records
from maxgate.results.report import Level, Saturation


class Screen(Protocol):
    """Who is told how it goes."""

    def phase(self, text: str, seconds: float | None) -> None:
        """Something begins that takes this long, as far as one knows."""
        ...

    def progress(self, progress: Progress) -> None:
        """How far it is."""
        ...


@dataclass
class RunResults:
    """What a run has brought so far."""

    levels: list[Level] = field(default_factory=list)
    records: list[Records] = field(default_factory=list)
    saturation: Saturation | None = None
    server: str | None = None
    interrupted: bool = False


_PROBES = 3
_BETWEEN_SHARDED_LEVELS = 8.0


class Session:
    """Runs the levels of these options on the pool; `interrupt` ends it in good order."""

    def __init__(
        self, options: Options, targets: list[Target], pool: WorkerPool, screen: Screen
    ) -> None:
        self._options, self._targets, self._pool, self._screen = options, targets, pool, screen
        self._cadences: dict[str, Cadence] = {}
        self._run_id = f"load-{secrets.token_hex(4)}"
        self.results = RunResults()

    def interrupt(self) -> None:
        """Finish the present level early and begin no other."""
        self.results.interrupted = True
        self._pool.stop()

    async def run(self) -> None:
        """All levels. Raises ServerUnreachable and ConfigurationError before anything was sent."""
        if self._options.sweep:
            for scenario in self._options.scenarios:
                await self._sweep(scenario)
        else:
            for number, spec in enumerate(plan_levels(self._options)):
                await self._level(spec, number)

    async def _sweep(self, scenario: str) -> None:
        steps: list[Level] = []
        verdict = saturation(steps)
        while not verdict.found and not self.results.interrupted:
            spec = next_step(self._options, scenario, len(steps))
            if spec is None:
                break
            await self._level(spec, len(steps))
            steps += [level for level in self.results.levels[-1:] if level.side == "target"]
            verdict = saturation(steps)
        self.results.saturation = verdict

    async def _level(self, spec: LevelSpec, number: int) -> None:
        if self.results.interrupted:
            return
        if spec.scenario not in self._cadences:
            self._cadences[spec.scenario] = await self._probe(spec)
        self._screen.phase(f"{spec.scenario}, {spec.name}: measuring the client itself", None)
        errors = await self._calibrate(spec)
        if self.results.interrupted:
            return
        self._screen.phase(f"{spec.scenario}, {spec.name}", spec.load.duration)
        started_at = datetime.now(UTC)
        outcome = await self._pool.run(
            self._job(spec, self._targets), self._screen.progress, start=self._start(number)
        )
        if not self.results.interrupted:
            # The machine may have become slower meanwhile.
            self._screen.phase(f"{spec.scenario}, {spec.name}: and once more", None)
            errors = merge_client_errors(errors, await self._calibrate(spec))
        if len(outcome.records) or not self.results.interrupted:
            self._keep(spec, outcome, started_at, errors)

    def _keep(
        self,
        spec: LevelSpec,
        outcome: Outcome,
        started_at: datetime,
        errors: dict[str, ClientError],
    ) -> None:
        options, load = self._options, spec.load
        known = widen_by_lag(errors, outcome.lag, median_output_tokens(outcome.records))
        self.results.records.append(outcome.records)
        self.results.server = self.results.server or outcome.server
        for side in ("baseline", "target") if len(self._targets) > 1 else ("target",):
            plan = LevelPlan(
                name=spec.name,
                scenario=spec.scenario,
                side=side,
                started_at=started_at,
                wall=outcome.wall,
                cpu=outcome.cpu,
                lag=outcome.lag.p99,
                stream=options.stream,
                scheduled=load.kind != "closed",
                concurrency=load.concurrency if load.kind == "closed" else None,
                rate=load.rate if load.kind == "open" else None,
                objectives=options.objectives,
                client_errors=known,
                seed=options.seed,
            )
            self.results.levels.append(level_report(plan, outcome.records))

    async def _probe(self, spec: LevelSpec) -> Cadence:
        """A few requests, to know the cadence and to have everything warm."""
        self._screen.phase(f"{spec.scenario}: warming up", None)
        load = LoadShape(kind="closed", concurrency=1, requests=_PROBES)
        job = self._job(LevelSpec(spec.scenario, load), self._targets)
        outcome = await self._pool.run(job.model_copy(update={"shards": 1, "shard": 0}), _ignore)
        records = outcome.records
        return measure_cadence(records.select(records["side"] == 0))

    async def _calibrate(self, spec: LevelSpec) -> dict[str, ClientError]:
        if not self._options.calibration:
            return {}
        cadence = self._cadences[spec.scenario]
        async with start_mock_server(cadence.script()) as url:
            calibrated = LevelSpec(
                spec.scenario, cadence.load(spec.load, self._options.calibration / 2)
            )
            job = self._job(calibrated, [Target(url=url, model="scripted")])
            outcome = await self._pool.run(job, _ignore)
            notes = await fetch_timestamps(url)
        return client_errors(outcome.records, notes, streamed=self._options.stream)

    def _job(self, spec: LevelSpec, targets: list[Target]) -> Job:
        options = self._options
        shape = RequestShape(
            scenario=spec.scenario,
            seed=options.seed,
            stream=options.stream,
            max_tokens=options.max_tokens,
            extra=options.extra,
            # Anew for each level: it asks what the one before it asked.
            nonce=secrets.token_hex(4) if options.cold else None,
            tokenizer=options.tokenizer,
        )
        return Job(
            run_id=self._run_id,
            targets=targets,
            requests=shape,
            load=spec.load,
            timeout=options.timeout,
            grace=options.grace,
            shard=options.shard[0],
            shards=options.shard[1],
            records="",
        )

    def _start(self, number: int) -> float | None:
        """For several machines, the moment at which all of them begin this level."""
        options = self._options
        if options.start_at is None:
            return None
        each = (options.duration or 0.0) + options.grace + _BETWEEN_SHARDED_LEVELS
        ahead = options.start_at + number * each - time.time()
        if number == 0 and ahead < 0:
            raise ConfigurationError(
                f"--start-at: the moment was {-ahead:.1f} s ago when this machine was ready; "
                "leave more time to warm up and to measure the client"
            )
        return time.perf_counter() + ahead


def _ignore(progress: Progress) -> None:
    """Of what is not measured nothing is shown."""
