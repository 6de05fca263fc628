"""Tables of results, shared by the terminal, Markdown and HTML output."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from maxgate.report.formatting import (
    UNKNOWN,
    format_interval,
    format_relative_change,
    format_value,
)
from maxgate.report.grades import LETTERS, LetterGrade, grade_run
from maxgate.report.runs import Run, compare_runs
from maxgate.results.distribution import Distribution
from maxgate.results.report import Change, Level

Tone = Literal["", "good", "bad", "unsure"]

_LATENCY_METRICS: Final = (
    "latency", "response_latency", "ttft", "response_ttft", "tpot", "chunk_gap",
)  # fmt: skip
_CLIENT_ERROR_NOTE: Final = (
    "client ±: the load generator's own timing error (99th percentile). Values below it, or from "
    f"too few requests, are shown as {UNKNOWN}."
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text, with an optional tone per row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    tones: Sequence[Tone] = ()
    note: str = ""

    def tone(self, row: int) -> Tone:
        """Tone of this row; empty if the table has no tones."""
        return self.tones[row] if self.tones else ""


def build_tables(runs: Sequence[Run]) -> list[Table]:
    """Build every table that has rows, grades first."""
    every = [
        grades_table(runs),
        runs_table(runs),
        throughput_table(runs),
        latency_table(runs),
        errors_table(runs),
        grade_reasons_table(runs),
        changes_table(runs),
        reported_changes_table(runs, "paired"),
        reported_changes_table(runs, "comparison"),
        drift_table(runs),
    ]
    return [table for table in every if table.rows]


def grades_table(runs: Sequence[Run]) -> Table:
    """One row per run and level, with a letter and value per target."""
    grades = [grade for run in runs for grade in grade_run(run)]
    targets = list(dict.fromkeys(one.grade.target for one in grades))
    levels: dict[tuple[str, str], dict[str, LetterGrade]] = {}
    for one in grades:
        levels.setdefault((one.run, one.grade.level), {})[one.grade.target] = one
    rows: list[list[str]] = []
    tones: list[Tone] = []
    for (run, level), found in levels.items():
        cells = [
            f"{one.letter}  {format_value(one.grade.value, one.grade.unit)}" if one else ""
            for one in map(found.get, targets)
        ]
        rows.append([f"{run}: {level}", *cells])
        verdicts = {one.grade.verdict for one in found.values()}
        tones.append("bad" if "fail" in verdicts else "unsure" if "unclear" in verdicts else "good")
    return Table("Grades", ["level", *targets], rows, tones, LETTERS)


def grade_reasons_table(runs: Sequence[Run]) -> Table:
    """One row per grade, with its reason."""
    grades = [grade for run in runs for grade in grade_run(run)]
    tones: dict[str, Tone] = {"pass": "good", "fail": "bad", "unclear": "unsure"}
    rows = [
        [one.letter, one.grade.target, one.grade.level, one.run,
         format_value(one.grade.value, one.grade.unit), one.grade.reason]
        for one in grades
    ]  # fmt: skip
    columns = ["grade", "target", "level", "run", "value", "reason"]
    return Table("Grade reasons", columns, rows, [tones[one.grade.verdict] for one in grades])


def runs_table(runs: Sequence[Run]) -> Table:
    """One row per run: server, load, workload and client machine."""
    rows = [
        [
            run.name + (" (interrupted)" if run.report.interrupted else ""),
            run.report.created_at.strftime("%Y-%m-%d %H:%M"),
            run.report.server.url,
            run.report.server.model or UNKNOWN,
            f"{run.report.load.kind}, {', '.join(run.report.workload.scenarios)}",
            run.report.workload.fingerprint[:8],
            f"{run.report.machine.cores} cores, {run.report.machine.system}",
        ]
        for run in runs
    ]
    columns = ["run", "date", "server", "model", "load", "workload", "client machine"]
    return Table("Runs", columns, rows)


def throughput_table(runs: Sequence[Run]) -> Table:
    """One row per level: requests, throughput, and whether the client kept up."""
    rows = []
    for name, level in _name_levels(runs):
        throughput, requests = level.throughput, level.requests
        rate = format_value(throughput.requests, "/s")
        rows.append(
            [
                name,
                f"{requests.succeeded:,} of {requests.attempted:,}",
                f"{level.in_flight.mean:.1f} of {level.in_flight.configured or UNKNOWN}",
                f"{rate} {format_interval(throughput.requests_interval, '/s')}".strip(),
                format_value(throughput.output_tokens, "/s"),
                UNKNOWN if requests.good is None else f"{requests.good:,}",
                _format_client(level),
            ]
        )
    columns = [
        "level", "successful", "in flight", "requests", "output tokens", "met SLO", "client",
    ]  # fmt: skip
    return Table("Throughput", columns, rows)


def _name_levels(runs: Sequence[Run]) -> Iterator[tuple[str, Level]]:
    for run in runs:
        yield from run.name_levels()


def _format_client(level: Level) -> str:
    if level.client.limited:
        return f"LIMITED: {level.client.reason or 'it could not keep up'}"
    delay = level.client.late_p99
    return "kept up" if delay is None else f"kept up, send delay P99 {format_value(delay, 's')}"


def latency_table(runs: Sequence[Run]) -> Table:
    """One row per level and metric: percentiles and the client error."""
    rows = []
    for name, level in _name_levels(runs):
        for metric in _LATENCY_METRICS:
            found = level.metrics.get(metric)
            if found is None or not found.count:
                continue
            if found.below_client_error:
                values = ["below the client error", *[""] * 6]
            else:
                keys = ("50", "90", "95", "99", "99.9")
                values = [format_value(found.percentiles.get(key), "s") for key in keys]
                values.append(format_interval(found.intervals.get("95"), "s"))
                values.append(format_value(found.max, "s"))
            rows.append([name, metric, f"{found.count:,}", *values, _format_client_error(found)])
    columns = [
        "level", "metric", "n", "P50", "P90", "P95", "P99", "P99.9", "P95 interval", "max",
        "client ±",
    ]  # fmt: skip
    definitions = {name: one for run in runs for name, one in run.report.definitions.items()}
    defined = [f"{key}: {definitions[key].text}" for key in _LATENCY_METRICS if key in definitions]
    return Table("Latency", columns, rows, note=f"{'; '.join(defined)}. {_CLIENT_ERROR_NOTE}")


def _format_client_error(found: Distribution) -> str:
    """Format the P99 error, and the P99.9 error if that percentile is shown."""
    error = found.client_error
    if error is None:
        return UNKNOWN
    bar = format_value(error.at("99"), "s")
    if found.percentiles.get("99.9") is None:
        return bar
    return f"{bar} (P99.9 {format_value(error.at('99.9'), 's')})"


def errors_table(runs: Sequence[Run]) -> Table:
    """One row per level and kind of failure."""
    rows = [
        [name, kind, f"{count:,}", f"{count / level.requests.attempted:.2%}"]
        for name, level in _name_levels(runs)
        for kind, count in level.requests.errors.items()
    ]
    return Table("Errors", ["level", "kind", "requests", "share"], rows, ["bad"] * len(rows))


def changes_table(runs: Sequence[Run]) -> Table:
    """Compare the later runs with the first."""
    title = f"Changes against {runs[0].name}" if runs else "Changes"
    return _build_changes_table(title, compare_runs(runs))


def reported_changes_table(runs: Sequence[Run], kind: Literal["paired", "comparison"]) -> Table:
    """Changes that load_test.py computed: `--baseline` (paired) or `--compare` (comparison)."""
    changes = [
        (run.name, change)
        for run in runs
        for change in (run.report.paired if kind == "paired" else run.report.comparison)
    ]
    titles = {
        "paired": "Target against baseline, paired",
        "comparison": "Changes against the report given to load_test.py --compare",
    }
    return _build_changes_table(titles[kind], changes)


def _build_changes_table(title: str, changes: Sequence[tuple[str, Change]]) -> Table:
    tones: dict[str, Tone] = {"better": "good", "worse": "bad", "unclear": "unsure"}
    rows = [[name, *_format_change(change)] for name, change in changes]
    columns = [
        "run", "level", "metric", "before", "after", "difference", "relative", "interval",
        "verdict",
    ]  # fmt: skip
    row_tones = [tones.get(change.verdict, "") for _, change in changes]
    return Table(title, columns, rows, row_tones, _explain_intervals(changes))


def _format_change(change: Change) -> list[str]:
    share = change.difference / change.before if change.difference and change.before else None
    return [
        change.level,
        f"{change.metric} {change.statistic}",
        format_value(change.before, change.unit),
        format_value(change.after, change.unit),
        format_value(change.difference, change.unit),
        format_relative_change(share),
        format_interval(change.interval, change.unit),
        change.verdict,
    ]


def _explain_intervals(changes: Sequence[tuple[str, Change]]) -> str:
    levels = sorted({one.interval.confidence for _, one in changes if one.interval is not None})
    ends = " to ".join(f"{one * 100:.3g}" for one in dict.fromkeys([*levels[:1], *levels[-1:]]))
    confidence = f"Intervals of the difference have {ends} % confidence. " if levels else ""
    return f"{confidence}A value is better or worse only if its interval excludes 0."


def drift_table(runs: Sequence[Run]) -> Table:
    """One row per metric that was checked for drift in a soak test."""
    rows = [
        [run.name, one.level, one.metric, format_value(one.per_hour, unit),
         format_interval(one.interval, unit), one.verdict]
        for run in runs
        for one in run.report.drift
        for unit in ["requests/s" if one.metric == "throughput" else "s"]
    ]  # fmt: skip
    return Table("Drift", ["run", "level", "metric", "per hour", "interval", "verdict"], rows)
