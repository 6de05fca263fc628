"""Tables of grades, runs, errors and changes, and the choice of all tables of a report."""

from collections.abc import Sequence
from typing import Literal

from maxgate.report.formatting import (
    UNKNOWN,
    DurationUnit,
    choose_duration_unit,
    format_interval,
    format_relative_change,
    format_value,
)
from maxgate.report.grades import LETTERS, LetterGrade, grade_run
from maxgate.report.result_tables import (
    METRIC_NAMES,
    Table,
    Tone,
    latency_table,
    results_table,
    throughput_table,
)
from maxgate.report.runs import Run, compare_runs, name_levels
from maxgate.results.report import Change


def build_tables(runs: Sequence[Run]) -> tuple[list[Table], list[Table]]:
    """Build every table that has rows: those to show before the charts, and those after them."""
    first = [
        grades_table(runs),
        results_table(runs),
    ]
    rest = [
        changes_table(runs),
        reported_changes_table(runs, "paired"),
        reported_changes_table(runs, "comparison"),
        runs_table(runs),
        throughput_table(runs),
        latency_table(runs),
        errors_table(runs),
        grade_reasons_table(runs),
        drift_table(runs),
    ]
    return [table for table in first if table.rows], [table for table in rest if table.rows]


def grades_table(runs: Sequence[Run]) -> Table:
    """One row per run and level, with a letter and value per target."""
    grades = [grade for run in runs for grade in grade_run(run)]
    targets = list(dict.fromkeys(one.grade.target for one in grades))
    units = {
        target: choose_duration_unit(
            one.grade.value or 0.0 for one in grades if one.grade.target == target
        )
        for target in targets
    }
    levels: dict[tuple[str, str], dict[str, LetterGrade]] = {}
    for one in grades:
        levels.setdefault((one.run, one.grade.level), {})[one.grade.target] = one
    rows: list[list[str]] = []
    tones: list[Tone] = []
    for (run, level), found in levels.items():
        cells = [
            _format_grade(one, units[one.grade.target]) if one else ""
            for one in map(found.get, targets)
        ]
        rows.append([f"{run}: {level}", *cells])
        verdicts = {one.grade.verdict for one in found.values()}
        tones.append("bad" if "fail" in verdicts else "unsure" if "unclear" in verdicts else "good")
    return Table("Grades", ["level", *targets], rows, tones, LETTERS)


def _format_grade(one: LetterGrade, unit: DurationUnit) -> str:
    grade = one.grade
    if grade.unit == "s" and grade.value is not None:
        return f"{one.letter}  {unit.format(grade.value)} {unit.name}"
    return f"{one.letter}  {format_value(grade.value, grade.unit)}"


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
    row_tones = [tones[one.grade.verdict] for one in grades]
    return Table("Grade reasons", columns, rows, row_tones, optional=["value", "run"])


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
    optional = ["client machine", "workload", "load", "date"]
    return Table("Runs", columns, rows, optional=optional)


def errors_table(runs: Sequence[Run]) -> Table:
    """One row per level and kind of failure."""
    rows = [
        [name, kind, f"{count:,}", f"{count / max(level.requests.attempted, 1):.2%}"]
        for name, level in name_levels(runs)
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
    optional = ["before", "after", "interval", "difference"]
    note = _explain_intervals(changes)
    return Table(title, columns, rows, row_tones, note, optional=optional)


def _format_change(change: Change) -> list[str]:
    share = change.difference / change.before if change.difference and change.before else None
    return [
        change.level,
        f"{METRIC_NAMES.get(change.metric, change.metric)} {change.statistic}",
        *_format_values([change.before, change.after, change.difference], change.unit),
        format_relative_change(share),
        format_interval(change.interval, change.unit),
        change.verdict,
    ]


def _format_values(values: Sequence[float | None], unit: str) -> list[str]:
    """Format the values of one row, durations in one unit."""
    if unit != "s":
        return [format_value(value, unit) for value in values]
    chosen = choose_duration_unit(value for value in values if value is not None)
    return [
        UNKNOWN if value is None else f"{chosen.format(value)} {chosen.name}" for value in values
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
