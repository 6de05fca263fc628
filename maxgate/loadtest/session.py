"""Run the levels of a load test, with calibration around each."""

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from maxgate.errors import ConfigurationError
from maxgate.loadtest.analysis.level_report import LevelPlan, build_level
from maxgate.loadtest.analysis.saturation import detect_saturation
from maxgate.loadtest.arrivals import plan_replay
from maxgate.loadtest.calibration import (
    Cadence,
    compute_client_errors,
    measure_cadence,
    median_output_tokens,
    merge_client_errors,
    widen_by_lag,
)
from maxgate.loadtest.levels import LevelSpec, plan_levels, plan_sweep_step
from maxgate.loadtest.messages import Job, LoadShape, Progress, RequestShape, Target
from maxgate.loadtest.mock_server.server import fetch_timestamps, start_mock_server
from maxgate.loadtest.options import Options
from maxgate.loadtest.scenarios.files import load_scenario
from maxgate.loadtest.worker_pool import Outcome, ProgressCallback
from maxgate.results.distribution import ClientError
from maxgate.results.records import Records
from maxgate.results.report import Level, Saturation


class Screen(Protocol):
    """Displays progress."""

    def phase(self, text: str, seconds: float | None) -> None:
        """Show that a phase begins, and its maximum duration if known."""
        ...

    def progress(self, progress: Progress) -> None:
        """Show the counts of the current phase."""
        ...


class Pool(Protocol):
    """Runs jobs; see WorkerPool."""

    async def run(
        self, job: Job, on_progress: ProgressCallback, *, start: float | None = None
    ) -> Outcome:
        """Run one level."""
        ...

    def stop(self) -> None:
        """End the current level gracefully."""
        ...


@dataclass
class RunResults:
    """The results of a run so far."""

    levels: list[Level] = field(default_factory=list)
    records: list[Records] = field(default_factory=list)
    saturation: Saturation | None = None
    server: str | None = None
    interrupted: bool = False


_PROBE_REQUESTS: Final = 3
_PAUSE_BETWEEN_SHARDED_LEVELS: Final = 8.0


class Session:
    """Runs all levels of the options on a pool and collects the results."""

    def __init__(self, options: Options, targets: list[Target], pool: Pool, screen: Screen) -> None:
        self._options, self._targets, self._pool, self._screen = options, targets, pool, screen
        self._cadences: dict[str, Cadence] = {}
        self._run_id = f"load-{secrets.token_hex(4)}"
        self.results = RunResults()

    def interrupt(self) -> None:
        """End the current level early and start no other."""
        self.results.interrupted = True
        self._pool.stop()

    async def run(self) -> None:
        """Run all levels.

        Raises ServerUnreachable, and ConfigurationError if the start time has passed.
        """
        if self._options.sweep:
            for scenario in self._options.scenarios:
                await self._run_sweep(scenario)
        else:
            for number, spec in enumerate(plan_levels(self._options)):
                await self._run_level(spec, number)

    async def _run_sweep(self, scenario: str) -> None:
        steps: list[Level] = []
        verdict = detect_saturation(steps)
        while not verdict.found and not self.results.interrupted:
            spec = plan_sweep_step(self._options, scenario, len(steps))
            if spec is None:
                break
            await self._run_level(spec, len(steps))
            steps += [level for level in self.results.levels[-1:] if level.side == "target"]
            verdict = detect_saturation(steps)
        self.results.saturation = verdict

    async def _run_level(self, spec: LevelSpec, number: int) -> None:
        if self.results.interrupted:
            return
        if spec.scenario not in self._cadences:
            self._cadences[spec.scenario] = await self._probe(spec)
        title = f"{spec.scenario}, {spec.name}"
        errors = await self._calibrate(spec, f"{title}: calibrating the load generator")
        if self.results.interrupted:
            return
        self._screen.phase(title, self._expected_seconds(spec))
        started_at = datetime.now(UTC)
        outcome = await self._pool.run(
            self._create_job(spec, self._targets),
            self._screen.progress,
            start=self._start_time(number),
        )
        if not self.results.interrupted:
            # The machine may have slowed down in the meantime: keep the larger error.
            again = await self._calibrate(spec, f"{title}: calibrating again")
            errors = merge_client_errors(errors, again)
        if len(outcome.records) or not self.results.interrupted:
            self._add_level(spec, outcome, started_at, errors)

    def _add_level(
        self,
        spec: LevelSpec,
        outcome: Outcome,
        started_at: datetime,
        errors: dict[str, ClientError],
    ) -> None:
        options, load = self._options, spec.load
        errors = widen_by_lag(errors, outcome.lag, median_output_tokens(outcome.records))
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
                client_errors=errors,
                seed=options.seed,
            )
            self.results.levels.append(build_level(plan, outcome.records))

    async def _probe(self, spec: LevelSpec) -> Cadence:
        """Warm up with a few requests and measure the cadence of the responses."""
        self._screen.phase(f"{spec.scenario}: warming up", None)
        load = LoadShape(kind="closed", concurrency=1, requests=_PROBE_REQUESTS)
        job = self._create_job(LevelSpec(spec.scenario, load), self._targets)
        job = job.model_copy(update={"shards": 1, "shard": 0})
        records = (await self._pool.run(job, _ignore_progress)).records
        return measure_cadence(records.select(records["side"] == 0))

    async def _calibrate(self, spec: LevelSpec, phase: str) -> dict[str, ClientError]:
        if not self._options.calibration:
            return {}
        self._screen.phase(phase, None)
        cadence = self._cadences[spec.scenario]
        load = cadence.adapt_load(spec.load, self._options.calibration / 2)
        async with start_mock_server(cadence.script()) as url:
            target = Target(url=url, model="scripted")
            job = self._create_job(LevelSpec(spec.scenario, load), [target])
            outcome = await self._pool.run(job, _ignore_progress)
            timestamps = await fetch_timestamps(url)
        return compute_client_errors(outcome.records, timestamps, streamed=self._options.stream)

    def _expected_seconds(self, spec: LevelSpec) -> float | None:
        """Seconds until the last departure, if known."""
        load = spec.load
        if load.kind != "replay":
            return load.duration
        # Cached: the trace was read before the run.
        arrivals = load_scenario(self._create_shape(spec)).arrivals
        planned = plan_replay(
            arrivals or (), speed=load.speed, sides=1, count=load.requests, duration=load.duration
        )
        return planned[-1] if planned else None

    def _create_shape(self, spec: LevelSpec) -> RequestShape:
        options = self._options
        return RequestShape(
            scenario=spec.scenario,
            seed=options.seed,
            stream=options.stream,
            max_tokens=options.max_tokens,
            extra=options.extra,
            # A new nonce for each level, because every level sends the same prompts.
            nonce=secrets.token_hex(4) if options.cold else None,
            tokenizer=options.tokenizer,
            trace=options.trace,
        )

    def _create_job(self, spec: LevelSpec, targets: list[Target]) -> Job:
        options = self._options
        return Job(
            run_id=self._run_id,
            targets=targets,
            requests=self._create_shape(spec),
            load=spec.load,
            timeout=options.timeout,
            grace=options.grace,
            shard=options.shard[0],
            shards=options.shard[1],
            records="",
        )

    def _start_time(self, number: int) -> float | None:
        """Common start of this level on all machines; None without `--start-at`."""
        options = self._options
        if options.start_at is None:
            return None
        level = (options.duration or 0.0) + options.grace + _PAUSE_BETWEEN_SHARDED_LEVELS
        ahead = options.start_at + number * level - time.time()
        if number == 0 and ahead < 0:
            raise ConfigurationError(
                f"--start-at: this machine became ready {-ahead:.1f} s after the start time; "
                "choose a later time to allow for warm-up and calibration"
            )
        return time.perf_counter() + ahead


def _ignore_progress(progress: Progress) -> None:
    """Probes and calibration show no progress."""
