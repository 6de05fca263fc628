"""The numbers as tables, the same for the terminal, for Markdown and for HTML."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from maxgate.tools.report.changes import changes
from maxgate.tools.report.grades import RULE, marks
from maxgate.tools.report.runs import Run
from maxgate.tools.report.units import NOT_KNOWN, show, show_interval, show_percent
from maxgate.tools.results.level import Level
from maxgate.tools.results.verdict import Change

Tone = Literal["", "good", "bad", "unsure"]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text; `tones` says of each row whether it is good news."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    tones: Sequence[Tone] = ()
    note: str = ""

    def tone(self, row: int) -> Tone:
        """Of one row."""
        return self.tones[row] if self.tones else ""


def tables(runs: Sequence[Run]) -> list[Table]:
    """Everything that is known of these runs; tables without rows are left out."""
    every = [_runs(runs), *_grades(runs), _levels(runs), _latencies(runs), _errors(runs)]
    every += [
        _changes(runs),
        _reported(runs, "paired"),
        _reported(runs, "comparison"),
        _drift(runs),
    ]
    return [table for table in every if table.rows]


def _runs(runs: Sequence[Run]) -> Table:
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


def _grades(runs: Sequence[Run]) -> Iterator[Table]:
    given = [mark for run in runs for mark in marks(run)]
    tones: dict[str, Tone] = {"pass": "good", "fail": "bad", "unclear": "unsure"}
    rows = [
        [m.letter, m.grade.target, m.grade.level, m.run, show(m.grade.value, m.grade.unit),
         m.grade.reason]
        for m in given
    ]  # fmt: skip
    columns = ["grade", "target", "level", "run", "value", "reason"]
    yield Table("Grades", columns, rows, [tones[m.grade.verdict] for m in given], RULE)


def _levels(runs: Sequence[Run]) -> Table:
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


def _latencies(runs: Sequence[Run]) -> Table:
    rows = []
    for name, level in _series(runs):
        for metric in ("latency", "response_latency", "ttft", "response_ttft", "tpot", "chunk_gap"):
            found = level.metrics.get(metric)
            if found is None or not found.count:
                continue
            if found.below_client_error:
                told = ["below the client's own error", "", "", "", "", ""]
            else:
                told = [show(found.percentiles.get(p), "s") for p in ("50", "90", "95", "99")]
                told += [show_interval(found.intervals.get("95"), "s"), show(found.max, "s")]
            error = found.client_error
            own = f"{show(error.mean, 's')}" if error else NOT_KNOWN
            rows.append([name, metric, f"{found.count:,}", *told, own])
    columns = [
        "level", "metric", "n", "P50", "P90", "P95", "P99", "interval of P95", "max",
        "client's error",
    ]  # fmt: skip
    return Table("Latency", columns, rows, note=_definitions(runs))


def _definitions(runs: Sequence[Run]) -> str:
    known = {name: one for run in runs for name, one in run.report.definitions.items()}
    shown = ("latency", "response_latency", "ttft", "tpot", "chunk_gap")
    return "; ".join(f"{name}: {known[name].text}" for name in shown if name in known)


def _errors(runs: Sequence[Run]) -> Table:
    rows = [
        [name, kind, f"{count:,}", f"{count / level.requests.attempted:.2%}"]
        for name, level in _series(runs)
        for kind, count in level.requests.errors.items()
    ]
    return Table("Errors", ["level", "kind", "requests", "share"], rows, ["bad"] * len(rows))


def _changes(runs: Sequence[Run]) -> Table:
    found = changes(runs)
    title = f"Changes against {runs[0].name}" if runs else "Changes"
    return _change_table(title, found)


def _reported(runs: Sequence[Run], kind: Literal["paired", "comparison"]) -> Table:
    found = [
        (run.name, change)
        for run in runs
        for change in (run.report.paired if kind == "paired" else run.report.comparison)
    ]
    titles = {
        "paired": "Paired: what stands between baseline and target costs",
        "comparison": "Changes against the older report that load_test.py was given",
    }
    return _change_table(titles[kind], found)


def _change_table(title: str, found: Sequence[tuple[str, Change]]) -> Table:
    tones: dict[str, Tone] = {"better": "good", "worse": "bad", "unclear": "unsure"}
    rows = [[name, *_change(change)] for name, change in found]
    columns = ["run", "level", "metric", "before", "after", "change", "", "interval", "verdict"]
    note = "Intervals are 95 % of the difference; a change is called one where it does not hold 0."
    return Table(title, columns, rows, [tones.get(c.verdict, "") for _, c in found], note)


def _change(change: Change) -> list[str]:
    share = change.difference / change.before if change.difference and change.before else None
    return [
        change.level,
        f"{change.metric} {change.statistic}",
        show(change.before, change.unit),
        show(change.after, change.unit),
        show(change.difference, change.unit),
        show_percent(share),
        show_interval(change.interval, change.unit),
        change.verdict,
    ]


def _drift(runs: Sequence[Run]) -> Table:
    rows = [
        [run.name, one.level, one.metric, show(one.per_hour, "s"), show_interval(one.interval, "s"),
         one.verdict]
        for run in runs
        for one in run.report.drift
    ]  # fmt: skip
    return Table("Drift", ["run", "level", "metric", "per hour", "interval", "verdict"], rows)


def _series(runs: Sequence[Run]) -> Iterator[tuple[str, Level]]:
    for run in runs:
        yield from run.series()
