"""Title, subtitle and notes of a report: measured server, workload, date and sample sizes."""

from collections.abc import Sequence
from typing import Final

from maxgate.report.formatting import format_number, format_value
from maxgate.report.runs import Run
from maxgate.results.report import Level
from maxgate.results.statistics import min_interval_size, min_sample_size

_LOAD_NAMES: Final = {
    "closed": "closed loop",
    "constant": "open loop, constant rate",
    "poisson": "open loop, Poisson arrivals",
    "ramp": "open loop, rising rate",
    "sweep": "sweep",
    "soak": "soak",
    "replay": "replay",
}
_MAX_NAMED_RUNS: Final = 3
_INTERVAL_NOTE: Final = "Bars: 95 % confidence intervals."


def build_title(runs: Sequence[Run]) -> str:
    """For example `Load test of smollm2-135m-instruct, 3 runs`."""
    models = list(dict.fromkeys(run.report.server.model or "unknown model" for run in runs))
    named = models[0] if len(models) == 1 else f"{len(models)} models"
    return f"Load test of {named}" + (f", {len(runs)} runs" if len(runs) > 1 else "")


def build_subtitle(runs: Sequence[Run]) -> list[str]:
    """Lines with server and workload, and with date, client machine and interruptions."""
    reports = [run.report for run in runs]
    servers = list(dict.fromkeys(report.server.url for report in reports))
    server = servers[0] if len(servers) == 1 else f"{len(servers)} servers"
    workloads = list(dict.fromkeys(_describe_workload(run) for run in runs))
    workload = workloads[0] if len(workloads) == 1 else f"{len(workloads)} workloads"
    dates = [f"{report.created_at:%Y-%m-%d %H:%M} UTC" for report in reports]
    when = dates[0] if len(set(dates)) == 1 else f"{min(dates)} to {max(dates)}"
    machines = {f"{one.machine.cores} cores, {one.machine.system}" for one in reports}
    client = f"client: {machines.pop()}" if len(machines) == 1 else f"{len(machines)} clients"
    stopped = sum(report.interrupted for report in reports)
    interrupted = f"; {stopped} of {len(runs)} runs interrupted" if stopped else ""
    levels = [level for report in reports for level in report.levels]
    summary = [_describe_level(levels[0])] if len(levels) == 1 else []
    return [f"{server}; {workload}", f"{when}; {client}{interrupted}", *summary]


def _describe_level(level: Level) -> str:
    """The main results of one level, for reports that have no curves."""
    values = [
        f"{format_number(level.throughput.output_tokens)} output tokens/s",
        f"{format_number(level.throughput.requests)} requests/s",
    ]
    for metric, name in (("ttft", "TTFT"), ("tpot", "ITL"), ("latency", "E2E latency")):
        percentiles = found.percentiles if (found := level.find_metric(metric)) else {}
        values += [
            f"{name} P{key} {format_value(value, 's')}"
            for key in ("50", "95")
            if (value := percentiles.get(key)) is not None
        ]
    failed = f", {level.requests.failed:,} failed" if level.requests.failed else ""
    return f"{level.name}: {level.requests.succeeded:,} responses{failed}; {', '.join(values)}"


def _describe_workload(run: Run) -> str:
    workload, load = run.report.workload, run.report.load
    streamed = "streamed" if workload.stream else "not streamed"
    length = f", at most {workload.max_tokens} tokens" if workload.max_tokens else ""
    return f"{', '.join(workload.scenarios)}, {streamed}{length}; {_LOAD_NAMES[load.kind]}"


def list_warnings(runs: Sequence[Run]) -> list[str]:
    """One line per distinct warning; of several runs, with their names, or number above three."""
    names: dict[str, list[str]] = {}
    for run in runs:
        for warning in run.report.warnings:
            names.setdefault(warning, []).append(run.name)
    if len(runs) == 1:
        return list(names)
    return [
        f"{', '.join(found) if len(found) <= _MAX_NAMED_RUNS else f'{len(found)} runs'}: {warning}"
        for warning, found in names.items()
    ]


def build_notes(levels: Sequence[Level]) -> list[str]:
    """Explain the intervals, and the values and intervals that small samples do not have."""
    notes = [_INTERVAL_NOTE]
    counts = [level.requests.succeeded for level in levels]
    if not counts:
        return notes
    smallest = min(counts)
    for percent in (95.0, 99.0):
        if smallest < (needed := min_sample_size(percent)):
            few = sum(count < needed for count in counts)
            notes.append(
                f"P{percent:g} is omitted below {needed} responses ({few} of {len(counts)} levels)."
            )
        elif smallest < (needed := min_interval_size(percent)):
            few = sum(count < needed for count in counts)
            notes.append(
                f"P{percent:g} has no interval below {needed} responses ({few} of {len(counts)} "
                "levels)."
            )
    return notes
