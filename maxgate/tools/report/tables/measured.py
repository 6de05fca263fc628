"""What was measured."""

from collections.abc import Iterator, Sequence

from maxgate.tools.report.runs import Run
from maxgate.tools.report.tables.table import Table
from maxgate.tools.report.units import NOT_KNOWN, show, show_interval
from maxgate.tools.results.distribution import Distribution
from maxgate.tools.results.level import Level


def runs_table(runs: Sequence[Run]) -> Table:
    """Who was asked what, when and from where."""
    rows = [
        [
            run.name + (" (interrupted)" if run.report.interrupted else ""),
            run.report.created_at.strftime("%Y-%m-%d %H:%M"),
            run.report.server.url,
            run.report.server.model or NOT_KNOWN,
            f"{run.report.load.kind}, {', '.join(run.report.workload.scenarios)}",
            run.report.workload.fingerprint[:8],
            f"{run.report.machine.cores} cores, {run.report.machine.system}",
        ]
        for run in runs
    ]
    columns = ["run", "when", "server", "model", "load", "workload", "client's machine"]
    return Table("Runs", columns, rows)


def levels_table(runs: Sequence[Run]) -> Table:
    """How much was answered, and whether the client kept up."""
    rows = []
    for name, level in _series(runs):
        through, asked = level.throughput, level.requests
        rate = show(through.requests, "/s")
        rows.append(
            [
                name,
                f"{asked.succeeded:,} of {asked.attempted:,}",
                f"{level.in_flight.mean:.1f} of {level.in_flight.configured or NOT_KNOWN}",
                f"{rate} {show_interval(through.requests_interval, '/s')}".strip(),
                show(through.output_tokens, "/s"),
                NOT_KNOWN if asked.good is None else f"{asked.good:,}",
                _client(level),
            ]
        )
    columns = ["level", "answered", "in flight", "requests", "tokens out", "good", "client"]
    return Table("Throughput", columns, rows)


def _client(level: Level) -> str:
    if level.client.limited:
        return f"LIMIT: {level.client.reason or 'it could not keep up'}"
    late = level.client.late_p99
    return "kept up" if late is None else f"kept up, late P99 {show(late, 's')}"


def latencies_table(runs: Sequence[Run]) -> Table:
    """Percentiles of every metric, each with what the client itself adds."""
    rows = []
    for name, level in _series(runs):
        for metric in ("latency", "response_latency", "ttft", "response_ttft", "tpot", "chunk_gap"):
            found = level.metrics.get(metric)
            if found is None or not found.count:
                continue
            if found.below_client_error:
                told = ["below the client's own error", *[""] * 6]
            else:
                told = [
                    show(found.percentiles.get(p), "s") for p in ("50", "90", "95", "99", "99.9")
                ]
                told += [show_interval(found.intervals.get("95"), "s"), show(found.max, "s")]
            rows.append([name, metric, f"{found.count:,}", *told, _error_bar(found)])
    columns = [
        "level", "metric", "n", "P50", "P90", "P95", "P99", "P99.9", "interval of P95", "max",
        "client ±",
    ]  # fmt: skip
    return Table("Latency", columns, rows, note=_definitions(runs))


def _error_bar(found: Distribution) -> str:
    """What the client adds, as the load test prints it; P99.9 has a bar of its own."""
    error = found.client_error
    if error is None:
        return NOT_KNOWN
    tail = found.percentiles.get("99.9") is not None
    bar = show(error.at("99"), "s")
    return f"{bar} (P99.9 {show(error.at('99.9'), 's')})" if tail else bar


def _definitions(runs: Sequence[Run]) -> str:
    known = {name: one for run in runs for name, one in run.report.definitions.items()}
    shown = ("latency", "response_latency", "ttft", "response_ttft", "tpot", "chunk_gap")
    return "; ".join(f"{name}: {known[name].text}" for name in shown if name in known)


def errors_table(runs: Sequence[Run]) -> Table:
    """Failures by kind."""
    rows = [
        [name, kind, f"{count:,}", f"{count / level.requests.attempted:.2%}"]
        for name, level in _series(runs)
        for kind, count in level.requests.errors.items()
    ]
    return Table("Errors", ["level", "kind", "requests", "share"], rows, ["bad"] * len(rows))


def _series(runs: Sequence[Run]) -> Iterator[tuple[str, Level]]:
    for run in runs:
        yield from run.series()
