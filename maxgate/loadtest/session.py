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
    cadence_of,
    client_errors,
    larger,
    tokens_of_an_answer,
    widened,
)
from maxgate.loadtest.messages import Job, LoadShape, Peer, Progress, RequestShape
from maxgate.loadtest.mock_server.server import notes_of, responding
from maxgate.loadtest.options import LevelSpec, Options, levels_of
from maxgate.loadtest.worker_pool import Fleet, Outcome
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
class Findings:
    """What a run has brought so far."""

    levels: list[Level] = field(default_factory=list)
    records: list[Records] = field(default_factory=list)
    saturation: Saturation | None = None
    server: str | None = None
    interrupted: bool = False


_PROBES = 3
_BETWEEN_SHARDED_LEVELS = 8.0


class Session:
    """Runs the levels of these options on the fleet; `interrupt` ends it in good order."""

    def __init__(self, options: Options, peers: list[Peer], fleet: Fleet, screen: Screen) -> None:
        self._options, self._peers, self._fleet, self._screen = options, peers, fleet, screen
        self._cadences: dict[str, Cadence] = {}
        self._run_id = f"load-{secrets.token_hex(4)}"
        self.findings = Findings()

    def interrupt(self) -> None:
        """Finish the present level early and begin no other."""
        self.findings.interrupted = True
        self._fleet.stop()

    async def run(self) -> None:
        """All levels. Raises ServerAway and ConfigurationError before anything was sent."""
        if self._options.sweep:
            for scenario in self._options.scenarios:
                await self._sweep(scenario)
        else:
            for number, spec in enumerate(levels_of(self._options)):
                await self._level(spec, number)

    async def _sweep(self, scenario: str) -> None:
        steps: list[Level] = []
        verdict = saturation(steps)
        while not verdict.found and not self.findings.interrupted:
            spec = next_step(self._options, scenario, len(steps))
            if spec is None:
                break
            await self._level(spec, len(steps))
            steps += [level for level in self.findings.levels[-1:] if level.side == "target"]
            verdict = saturation(steps)
        self.findings.saturation = verdict

    async def _level(self, spec: LevelSpec, number: int) -> None:
        if self.findings.interrupted:
            return
        if spec.scenario not in self._cadences:
            self._cadences[spec.scenario] = await self._probe(spec)
        self._screen.phase(f"{spec.scenario}, {spec.name}: measuring the client itself", None)
        errors = await self._calibrate(spec)
        if self.findings.interrupted:
            return
        self._screen.phase(f"{spec.scenario}, {spec.name}", spec.load.duration)
        started_at = datetime.now(UTC)
        outcome = await self._fleet.run(
            self._job(spec, self._peers), self._screen.progress, start=self._start(number)
        )
        if not self.findings.interrupted:
            # The machine may have become slower meanwhile.
            self._screen.phase(f"{spec.scenario}, {spec.name}: and once more", None)
            errors = larger(errors, await self._calibrate(spec))
        if len(outcome.records) or not self.findings.interrupted:
            self._keep(spec, outcome, started_at, errors)

    def _keep(
        self,
        spec: LevelSpec,
        outcome: Outcome,
        started_at: datetime,
        errors: dict[str, ClientError],
    ) -> None:
        options, load = self._options, spec.load
        known = widened(errors, outcome.lag, tokens_of_an_answer(outcome.records))
        self.findings.records.append(outcome.records)
        self.findings.server = self.findings.server or outcome.server
        for side in ("baseline", "target") if len(self._peers) > 1 else ("target",):
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
            self.findings.levels.append(level_report(plan, outcome.records))

    async def _probe(self, spec: LevelSpec) -> Cadence:
        """A few requests, to know the cadence and to have everything warm."""
        self._screen.phase(f"{spec.scenario}: warming up", None)
        load = LoadShape(kind="closed", concurrency=1, requests=_PROBES)
        job = self._job(LevelSpec(spec.scenario, load), self._peers)
        outcome = await self._fleet.run(job.model_copy(update={"shards": 1, "shard": 0}), _ignore)
        records = outcome.records
        return cadence_of(records.select(records["side"] == 0))

    async def _calibrate(self, spec: LevelSpec) -> dict[str, ClientError]:
        if not self._options.calibration:
            return {}
        cadence = self._cadences[spec.scenario]
        async with responding(cadence.script()) as url:
            calibrated = LevelSpec(
                spec.scenario, cadence.load(spec.load, self._options.calibration / 2)
            )
            job = self._job(calibrated, [Peer(url=url, model="scripted")])
            outcome = await self._fleet.run(job, _ignore)
            notes = await notes_of(url)
        return client_errors(outcome.records, notes, streamed=self._options.stream)

    def _job(self, spec: LevelSpec, peers: list[Peer]) -> Job:
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
            peers=peers,
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
