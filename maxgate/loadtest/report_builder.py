"""Build the report from the results of a run."""

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import psutil

from maxgate.loadtest.analysis.drift import detect_drift
from maxgate.loadtest.analysis.pairing import compare_paired_levels, describe_order_effect
from maxgate.loadtest.analysis.targets import grade
from maxgate.loadtest.options import Options
from maxgate.loadtest.redaction import find_option_secrets, redact_command
from maxgate.loadtest.session import RunResults
from maxgate.net.server_url import parse_server_url
from maxgate.results.metrics import DEFINITIONS
from maxgate.results.records import Records
from maxgate.results.report import Level, Load, Machine, Report, Server, Workload

_PACKAGES: Final = ("maxgate", "httptools", "uvloop", "numpy", "orjson", "pydantic")


def build_report(
    options: Options,
    results: RunResults,
    *,
    command: Sequence[str],
    models: Sequence[str | None],
    fingerprint: str,
    notes: Sequence[str] = (),
) -> Report:
    """The report without the comparison with an earlier one."""
    levels = [level for level in results.levels if level.side == "target"]
    stopped = [] if results.stopped is None else [f"stopped early: {results.stopped}"]
    baseline, paired, warnings = None, [], [*stopped, *_find_warnings(options, levels)]
    if options.baseline is not None:
        baseline = Server(url=parse_server_url(options.baseline).url, model=models[1])
        paired = compare_paired_levels(
            levels, results.records, stream=options.stream, seed=options.seed
        )
        warnings += _find_order_effects(options, levels, results.records)
    return Report(
        created_at=datetime.now(UTC),
        command=redact_command(command, find_option_secrets(options)),
        seed=options.seed,
        interrupted=results.interrupted,
        stopped=results.stopped,
        server=Server(
            url=parse_server_url(options.url).url, model=models[0], software=results.server
        ),
        baseline=baseline,
        machine=describe_machine(),
        versions=list_versions(),
        workload=Workload(
            scenarios=list(options.scenarios),
            stream=options.stream,
            max_tokens=options.max_tokens,
            cold=options.cold,
            fingerprint=fingerprint,
            notes=list(notes),
        ),
        load=_describe_load(options, levels),
        objectives=options.objectives,
        definitions=DEFINITIONS,
        levels=results.levels,
        grades=[one for level in levels for one in grade(level, options.targets)],
        paired=paired,
        saturation=results.saturation,
        drift=[one for level in levels for one in detect_drift(level)] if options.soak else [],
        warnings=warnings,
    )


def describe_machine() -> Machine:
    """The machine of the load generator."""
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=_processor_name(),
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        python=platform.python_version(),
    )


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123  # not a file on disk
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def list_versions() -> dict[str, str]:
    """Versions of the installed packages that affect the results."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _describe_load(options: Options, levels: Sequence[Level]) -> Load:
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


def _find_warnings(options: Options, levels: Sequence[Level]) -> Iterator[str]:
    """Reasons not to trust some of the numbers."""
    if not options.calibration:
        yield "the load generator's own timing error is unknown (--no-calibrate)"
    for level in levels:
        title = f"{level.scenario}, {level.name}"
        if not level.requests.attempted:
            yield (
                f"{title}: no request was measured, because all were warm-up or unfinished at the "
                "end; use a longer --duration (-d), more --requests (-n) or a smaller load"
            )
        if level.client.limited:
            yield f"{title}: the load generator was the bottleneck: {level.client.reason}"
        counted_by = level.tokens.counted_by
        if counted_by != "usage" and level.requests.succeeded:
            source = "chunks" if counted_by == "chunks" else "usage for some responses only"
            yield f"{title}: tokens were counted by {source}; the server sent no usage"
        if level.tokens.cached and not options.cold:
            share = level.tokens.cached / max(1, level.tokens.input or 1)
            yield f"{title}: {share:.0%} of the input tokens came from the prefix cache (--cold)"


def _find_order_effects(
    options: Options, levels: Sequence[Level], records: Sequence[Records]
) -> Iterator[str]:
    for level, level_records in zip(levels, records, strict=True):
        effect = describe_order_effect(level_records, stream=options.stream, seed=options.seed)
        if effect is not None:
            hint = "" if options.cold else "; --cold avoids a shared prefix cache"
            yield (
                f"{level.scenario}, {level.name}: {effect}; the paired differences correct for it"
                + hint
            )
