"""A letter per metric against its target, with the reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from maxgate.report.runs import Run
from maxgate.report.units import show, show_interval
from maxgate.results.distribution import Interval
from maxgate.results.report import Grade, Level

Letter = Literal["A", "B", "C", "D", "F", "?"]

RULE: Final = (
    "A: twice as good as the target; B: meets it; C: misses it by up to a quarter; "
    "D: by up to twice; F: by more; ?: no grade, for the reason given"
)
# The targets of the original design.
_PERCENTILES: Final = {"50": 0.4, "95": 0.8, "99": 1.2}
_RATE: Final = 25.0
_ERRORS: Final = 0.001


@dataclass(frozen=True, slots=True)
class Mark:
    """A grade of one run as it is shown."""

    run: str
    letter: Letter
    grade: Grade


def marks(run: Run) -> list[Mark]:
    """The report's own grades, or where it has none, those against the design's targets."""
    grades = run.report.grades or [
        grade for level in run.report.levels if level.side == "target" for grade in _grades(level)
    ]
    return [Mark(run.name, letter(grade), grade) for grade in grades]


def letter(grade: Grade) -> Letter:
    """See RULE."""
    if grade.verdict == "unclear":
        return "?"
    if grade.value is None or grade.limit <= 0:
        return "A" if grade.verdict == "pass" else "F"
    ratio = grade.value / grade.limit
    if grade.better == "higher":
        ratio = 1 / ratio if ratio > 0 else float("inf")
    if grade.verdict == "pass":
        return "A" if ratio <= 0.5 else "B"
    return "C" if ratio <= 1.25 else "D" if ratio <= 2 else "F"


def _grades(level: Level) -> Iterator[Grade]:
    asked, through = level.requests, level.throughput
    for percent, limit in _PERCENTILES.items():
        yield _latency_grade(level, percent, limit)
    yield _grade(
        "throughput", level, _RATE, through.requests, "/s", asked.succeeded,
        through.requests_interval, better="higher",
    )  # fmt: skip
    share = asked.failed / asked.attempted if asked.attempted else None
    yield _grade("error_rate", level, _ERRORS, share, "share", asked.attempted, None)


def _latency_grade(level: Level, percent: str, limit: float) -> Grade:
    latency, asked = level.metrics.get("latency"), level.requests
    # A failed request has missed its target; leaving it out would make refusing look fast.
    value = latency.including_failures.get(percent) if latency else None
    interval = latency.intervals.get(percent) if latency and not asked.failed else None
    grade = _grade(f"p{percent}", level, limit, value, "s", asked.attempted, interval)
    if value is None and asked.failed > asked.attempted * (1 - float(percent) / 100):
        reason = (
            f"{asked.failed:,} of {asked.attempted:,} requests failed: P{percent} is one of them"
        )
        return grade.model_copy(update={"verdict": "fail", "reason": reason})
    return grade


def _grade(
    target: str,
    level: Level,
    limit: float,
    value: float | None,
    unit: str,
    count: int,
    interval: Interval | None,
    better: Literal["lower", "higher"] = "lower",
) -> Grade:
    passed = value is not None and (value <= limit if better == "lower" else value >= limit)
    unclear = _why_unclear(level, value, limit, interval)
    return Grade(
        target=target,
        level=level.name,
        limit=limit,
        better=better,
        value=value,
        unit=unit,
        count=count,
        verdict="unclear" if unclear else "pass" if passed else "fail",
        reason=unclear or _reason(value, limit, unit, count, interval, better),
    )


def _why_unclear(
    level: Level, value: float | None, limit: float, interval: Interval | None
) -> str | None:
    if level.client.limited:
        return f"the client was the limit: {level.client.reason or 'it could not keep up'}"
    if value is None:
        return f"too few to tell: {level.requests.attempted:,} requests"
    if interval is not None and interval.low <= limit <= interval.high:
        return "the interval holds the target: more requests would tell"
    return None


def _reason(
    value: float | None,
    limit: float,
    unit: str,
    count: int,
    interval: Interval | None,
    better: Literal["lower", "higher"],
) -> str:
    wanted = "at most" if better == "lower" else "at least"
    shown = f"{show(value, unit)} {show_interval(interval, unit)}".strip()
    return f"{shown} of {count:,} requests, {wanted} {show(limit, unit)} wanted"
