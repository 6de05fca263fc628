"""RunResults to the report."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import psutil

from maxgate.loadtest.analysis.drift import drift
from maxgate.loadtest.analysis.pairing import describe_order_effect, paired_levels
from maxgate.loadtest.analysis.targets import grade
from maxgate.loadtest.client.address import parse_address
from maxgate.loadtest.options import Options
from maxgate.loadtest.session import RunResults
from maxgate.results.metrics import DEFINITIONS
from maxgate.results.records import Records
from maxgate.results.report import Change, Level, Load, Machine, Report, Server, Workload

_PACKAGES = ("maxgate", "httptools", "uvloop", "numpy", "orjson", "pydantic")


def this_machine() -> Machine:
    """What the client runs on."""
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        python=platform.python_version(),
    )


def versions() -> dict[str, str]:
    """Of the packages that numbers depend on; those that are not installed are left out."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123  # not a file on disk
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def build_report(
    options: Options,
    results: RunResults,
    *,
    command: Sequence[str],
    models: Sequence[str | None],
    fingerprint: str,
) -> Report:
    """Everything but the comparison with an old report."""
    targets = [level for level in results.levels if level.side == "target"]
    server = Server(url=parse_address(options.url).url, model=models[0], software=results.server)
    baseline = None
    if options.baseline is not None:
        baseline = Server(url=parse_address(options.baseline).url, model=models[1])
    return Report(
        created_at=datetime.now(UTC),
        command=[part if part != options.api_key else "***" for part in command],
        seed=options.seed,
        interrupted=results.interrupted,
        server=server,
        baseline=baseline,
        machine=this_machine(),
        versions=versions(),
        workload=Workload(
            scenarios=list(options.scenarios),
            stream=options.stream,
            max_tokens=options.max_tokens,
            cold=options.cold,
            fingerprint=fingerprint,
        ),
        load=_load(options, targets),
        objectives=options.objectives,
        definitions=DEFINITIONS,
        levels=results.levels,
        grades=[one for level in targets for one in grade(level, options.targets)],
        paired=_paired(options, targets, results.records),
        saturation=results.saturation,
        drift=[one for level in targets for one in drift(level)] if options.soak else [],
        warnings=warnings(options, targets) + _order_warnings(options, targets, results.records),
    )


def warnings(options: Options, levels: Sequence[Level]) -> list[str]:
    """What a reader has to know before believing the numbers."""
    found = []
    if not options.calibration:
        found.append("the client's own error was not measured (--no-calibrate)")
    for level in levels:
        named = f"{level.scenario}, {level.name}"
        if not level.requests.attempted:
            found.append(f"{named}: nothing was measured; all was warm-up or unfinished")
        if level.client.limited:
            found.append(f"{named}: the client was the limit: {level.client.reason}")
        if level.tokens.counted_by != "usage" and level.requests.succeeded:
            found.append(f"{named}: tokens were counted by {level.tokens.counted_by}, not by usage")
        if level.tokens.cached and not options.cold:
            share = level.tokens.cached / max(1, level.tokens.input or 1)
            found.append(f"{named}: {share:.0%} of the input came from the prefix cache (--cold)")
    return found


def _load(options: Options, levels: Sequence[Level]) -> Load:
    shard = None if options.shard[1] == 1 else f"{options.shard[0]}/{options.shard[1]}"
    return Load(
        kind=options.kind,
        concurrency=[level.concurrency for level in levels if level.concurrency is not None],
        rates=[level.rate for level in levels if level.rate is not None],
        duration_seconds=options.duration,
        requests=options.requests,
        warmup_requests=options.warmup or 0,
        processes=options.processes,
        timeout_seconds=options.timeout,
        shard=shard,
    )


def _paired(options: Options, levels: Sequence[Level], records: Sequence[Records]) -> list[Change]:
    if options.baseline is None:
        return []
    return paired_levels(levels, records, stream=options.stream, seed=options.seed)


def _order_warnings(
    options: Options, levels: Sequence[Level], records: Sequence[Records]
) -> list[str]:
    """Where it mattered which server was asked first."""
    if options.baseline is None:
        return []
    return [
        f"{level.scenario}, {level.name}: {said}; the paired differences allow for it"
        + ("" if options.cold else ", and --cold keeps a shared prefix cache out of it")
        for level, of_level in zip(levels, records, strict=True)
        if (said := describe_order_effect(of_level, stream=options.stream, seed=options.seed))
    ]
