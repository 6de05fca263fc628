"""The numbers as tables, the same for the terminal, for Markdown and for HTML."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from maxgate.report.comparison import changes
from maxgate.report.grades import RULE, Mark, marks
from maxgate.report.runs import Run
from maxgate.report.units import NOT_KNOWN, show, show_interval, show_percent
from maxgate.results.distribution import Distribution
from maxgate.results.report import Change, Level

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


def grade_card(runs: Sequence[Run]) -> Table:
    """A row per run and level, a letter with its value per target."""
    given = [mark for run in runs for mark in marks(run)]
    targets = list(dict.fromkeys(mark.grade.target for mark in given))
    levels: dict[tuple[str, str], dict[str, Mark]] = {}
    for mark in given:
        levels.setdefault((mark.run, mark.grade.level), {})[mark.grade.target] = mark
    rows = [
        [f"{run}: {level}", *(_letter(found.get(target)) for target in targets)]
        for (run, level), found in levels.items()
    ]
    tones = [_worst(found.values()) for found in levels.values()]
    return Table("Grades", ["level", *targets], rows, tones, RULE)


def _letter(mark: Mark | None) -> str:
    return "" if mark is None else f"{mark.letter}  {show(mark.grade.value, mark.grade.unit)}"


def _worst(marks: Iterable[Mark]) -> Tone:
    verdicts = {mark.grade.verdict for mark in marks}
    return "bad" if "fail" in verdicts else "unsure" if "unclear" in verdicts else "good"


def grades_table(runs: Sequence[Run]) -> Table:
    """Every target of every run."""
    given = [mark for run in runs for mark in marks(run)]
    tones: dict[str, Tone] = {"pass": "good", "fail": "bad", "unclear": "unsure"}
    rows = [
        [m.letter, m.grade.target, m.grade.level, m.run, show(m.grade.value, m.grade.unit),
         m.grade.reason]
        for m in given
    ]  # fmt: skip
    columns = ["grade", "target", "level", "run", "value", "reason"]
    return Table("Why these grades", columns, rows, [tones[m.grade.verdict] for m in given])


def changes_table(runs: Sequence[Run]) -> Table:
    """The later runs against the first."""
    found = changes(runs)
    title = f"Changes against {runs[0].name}" if runs else "Changes"
    return _change_table(title, found)


def reported_table(runs: Sequence[Run], kind: Literal["paired", "comparison"]) -> Table:
    """Changes that the load test itself has worked out."""
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
    return Table(title, columns, rows, [tones.get(c.verdict, "") for _, c in found], _note(found))


def _note(found: Sequence[tuple[str, Change]]) -> str:
    sure = sorted({c.interval.confidence for _, c in found if c.interval is not None})
    sizes = " to ".join(f"{one * 100:.3g}" for one in dict.fromkeys([*sure[:1], *sure[-1:]]))
    of = f"Intervals are {sizes} % of the difference; " if sure else ""
    return f"{of}a change is called one where its interval does not hold 0."


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


def drift_table(runs: Sequence[Run]) -> Table:
    """What grew or fell in a soak."""
    rows = [
        [run.name, one.level, one.metric, show(one.per_hour, unit),
         show_interval(one.interval, unit), one.verdict]
        for run in runs
        for one in run.report.drift
        for unit in ["requests/s" if one.metric == "throughput" else "s"]
    ]  # fmt: skip
    return Table("Drift", ["run", "level", "metric", "per hour", "interval", "verdict"], rows)


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


def tables(runs: Sequence[Run]) -> list[Table]:
    """Everything that is known of these runs, grades first; tables without rows are left out."""
    every = [
        grade_card(runs),
        runs_table(runs),
        levels_table(runs),
        latencies_table(runs),
        errors_table(runs),
        grades_table(runs),
        changes_table(runs),
        reported_table(runs, "paired"),
        reported_table(runs, "comparison"),
        drift_table(runs),
    ]
    return [table for table in every if table.rows]
