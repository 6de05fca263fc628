"""Run the levels of a load test, with calibration around each."""

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from maxgate.errors import ConfigurationError, MaxgateError
from maxgate.loadtest.analysis.level_report import LevelPlan, build_level
from maxgate.loadtest.analysis.metrics import succeeded
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
from maxgate.loadtest.redaction import find_secrets, redact
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
    stopped: str | None = None
    """Why the run ended before all of its levels, apart from an interruption."""


_PROBE_REQUESTS: Final = 3
_MORE_PROBE_REQUESTS: Final = 5
"""Sent if the first probe failed, because some servers fail a few requests after a start."""
_PAUSE_BETWEEN_SHARDED_LEVELS: Final = 8.0


class Session:
    """Runs all levels of the options on a pool and collects the results."""

    def __init__(self, options: Options, targets: list[Target], pool: Pool, screen: Screen) -> None:
        self._options, self._targets, self._pool, self._screen = options, targets, pool, screen
        self._cadences: dict[str, Cadence] = {}
        self._position = self._title = ""
        self._run_id = f"load-{secrets.token_hex(4)}"
        self.results = RunResults()

    def interrupt(self) -> None:
        """End the current level early and start no other."""
        self.results.interrupted = True
        self._pool.stop()

    async def run(self) -> None:
        """Run all levels.

        An error after the first level ends the run and keeps the levels so far. Raises
        ServerUnreachable, and ConfigurationError if the start time has passed.
        """
        try:
            await self._run_levels()
        except MaxgateError as error:
            if not self.results.levels:
                raise
            self.results.stopped = f"{self._title}: {self._redact(str(error))}"

    async def _run_levels(self) -> None:
        if self._options.sweep:
            for scenario in self._options.scenarios:
                await self._run_sweep(scenario)
        else:
            specs = plan_levels(self._options)
            for number, spec in enumerate(specs):
                self._position = f"[{number + 1}/{len(specs)}] " if len(specs) > 1 else ""
                await self._run_level(spec, number)

    async def _run_sweep(self, scenario: str) -> None:
        steps: list[Level] = []
        verdict = detect_saturation(steps)
        while not verdict.found and not self._ended:
            spec = plan_sweep_step(self._options, scenario, len(steps))
            if spec is None:
                break
            await self._run_level(spec, len(steps))
            steps += [level for level in self.results.levels[-1:] if level.side == "target"]
            verdict = detect_saturation(steps)
        self.results.saturation = verdict

    async def _run_level(self, spec: LevelSpec, number: int) -> None:
        if self._ended:
            return
        if spec.scenario not in self._cadences:
            cadence = await self._probe(spec)
            if cadence is None:
                return
            self._cadences[spec.scenario] = cadence
        title = self._title = f"{spec.scenario}, {spec.name}"
        errors = await self._calibrate(
            spec, f"{self._position}{title}: calibrating the load generator"
        )
        if self.results.interrupted:
            return
        started_at = datetime.now(UTC)
        self._screen.phase(self._position + title, self._expected_seconds(spec))
        outcome = await self._pool.run(
            self._create_job(spec, self._targets),
            self._screen.progress,
            start=self._start_time(number),
        )
        if outcome.gave_up and not (self._options.sweep and number):
            self.results.stopped = f"{title}: {self._explain_failures(outcome)}"
        if not self._ended:
            # The machine may have slowed down in the meantime: keep the larger error.
            again = await self._calibrate(spec, f"{self._position}{title}: calibrating again")
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
                error_messages=self._collect_messages(outcome, side),
            )
            self.results.levels.append(build_level(plan, outcome.records))

    @property
    def _ended(self) -> bool:
        return self.results.interrupted or self.results.stopped is not None

    async def _probe(self, spec: LevelSpec) -> Cadence | None:
        """Warm up with a few requests and measure the cadence of the responses.

        None if all requests to one server failed: the level then consists of these requests.
        """
        title = self._title = f"{spec.scenario}: warming up"
        self._screen.phase(self._position + title, None)
        started_at = datetime.now(UTC)
        outcome = await self._send_probes(spec, _PROBE_REQUESTS, max_failures=1)
        timed_out = any(failure.kind == "timeout" for failure in outcome.failures)
        if self._is_hopeless(outcome) and not timed_out:
            again = _MORE_PROBE_REQUESTS
            outcome = await self._send_probes(spec, again, max_failures=again)
        if not self._is_hopeless(outcome):
            return measure_cadence(outcome.records.select(outcome.records["side"] == 0))
        self.results.stopped = f"{title}: {self._explain_failures(outcome)}"
        self._add_level(spec, outcome, started_at, {})
        return None

    async def _send_probes(self, spec: LevelSpec, count: int, *, max_failures: int) -> Outcome:
        load = LoadShape(kind="closed", concurrency=1, requests=count)
        job = self._create_job(LevelSpec(spec.scenario, load), self._targets)
        job = job.model_copy(update={"shards": 1, "shard": 0, "max_failures": max_failures})
        return await self._pool.run(job, _ignore_progress)

    def _is_hopeless(self, outcome: Outcome) -> bool:
        """Whether no request to one of the servers succeeded, unless interrupted."""
        if self._options.keep_going or self.results.interrupted:
            return False
        good = outcome.records["side"][succeeded(outcome.records)]
        return len(set(good.tolist())) < len(self._targets)

    def _explain_failures(self, outcome: Outcome) -> str:
        """The kinds of failures with their reasons."""
        reasons = [
            ("baseline: " if failure.side else "")
            + failure.kind
            + (f" ({message})" if (message := self._redact(failure.message)) else "")
            for failure in outcome.failures
        ]
        return f"all requests failed: {', '.join(reasons)} (--keep-going continues nevertheless)"

    def _collect_messages(self, outcome: Outcome, side: str) -> dict[str, str]:
        """The message of each kind of failure of this side; kinds without one are left out."""
        number = int(side == "baseline")
        messages = {f.kind: f.message for f in outcome.failures if f.side == number}
        return {kind: self._redact(text) for kind, text in messages.items() if text}

    def _redact(self, text: str) -> str:
        """Remove the credentials, which some servers repeat in their messages."""
        return redact(text, find_secrets(self._targets))

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
            keep_going=options.keep_going,
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
