"""What follows from it: grades, changes, drift."""

from collections.abc import Iterable, Sequence
from typing import Literal

from maxgate.tools.report.changes import changes
from maxgate.tools.report.grades import RULE, Mark, marks
from maxgate.tools.report.runs import Run
from maxgate.tools.report.tables.table import Table, Tone
from maxgate.tools.report.units import show, show_interval, show_percent
from maxgate.tools.results.verdict import Change


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
