"""Grade each metric against its target with a letter and a reason."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from maxgate.report.formatting import format_interval, format_value
from maxgate.report.runs import Run
from maxgate.results.distribution import Interval
from maxgate.results.report import DESIGN_TARGETS, Grade, Level

Letter = Literal["A", "B", "C", "D", "F", "?"]

LETTERS: Final = (
    "A: at least twice as good as the target; B: meets the target; C: misses it by a factor of up "
    "to 1.25; D: of up to 2; F: of more; ?: no grade, for the reason given"
)


@dataclass(frozen=True, slots=True)
class LetterGrade:
    """A grade of a run with its letter."""

    run: str
    letter: Letter
    grade: Grade


def add_design_grades(run: Run) -> Run:
    """Return the run with grades for the design's targets; unchanged if it has grades."""
    if run.report.grades:
        return run
    levels = [level for level in run.report.levels if level.side == "target"]
    grades = [grade for level in levels for grade in _grade_level(level)]
    return replace(run, report=run.report.model_copy(update={"grades": grades}))


def grade_run(run: Run) -> list[LetterGrade]:
    """Return the grades in the report, with letters."""
    return [LetterGrade(run.name, choose_letter(grade), grade) for grade in run.report.grades]


def choose_letter(grade: Grade) -> Letter:
    """Apply the rules in `LETTERS`."""
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


def _grade_level(level: Level) -> Iterator[Grade]:
    requests, throughput = level.requests, level.throughput
    for percent in ("50", "95", "99"):
        yield _grade_latency(level, percent, DESIGN_TARGETS[f"p{percent}"])
    yield _grade(
        "throughput", level, DESIGN_TARGETS["throughput"], throughput.requests, "/s",
        requests.succeeded, throughput.requests_interval, better="higher",
    )  # fmt: skip
    share = requests.failed / requests.attempted if requests.attempted else None
    limit = DESIGN_TARGETS["error_rate"]
    yield _grade("error_rate", level, limit, share, "share", requests.attempted, None)


def _grade_latency(level: Level, percent: str, limit: float) -> Grade:
    latency, requests = level.metrics.get("latency"), level.requests
    # Failed requests count as slowest; otherwise a server that rejects requests would look fast.
    value = latency.including_failures.get(percent) if latency else None
    interval = latency.intervals.get(percent) if latency and not requests.failed else None
    grade = _grade(f"p{percent}", level, limit, value, "s", requests.attempted, interval)
    if value is None and requests.failed > requests.attempted * (1 - float(percent) / 100):
        reason = (
            f"{requests.failed:,} of {requests.attempted:,} requests failed, so P{percent} is a "
            "failed request"
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
    unclear = _explain_unclear(level, value, limit, interval)
    bound = "at most" if better == "lower" else "at least"
    measured = f"{format_value(value, unit)} {format_interval(interval, unit)}".strip()
    return Grade(
        target=target,
        level=level.name,
        limit=limit,
        better=better,
        value=value,
        unit=unit,
        count=count,
        verdict="unclear" if unclear else "pass" if passed else "fail",
        reason=unclear
        or f"{measured} over {count:,} requests, target {bound} {format_value(limit, unit)}",
    )


def _explain_unclear(
    level: Level, value: float | None, limit: float, interval: Interval | None
) -> str | None:
    if level.client.limited:
        return f"limited by the client: {level.client.reason or 'it could not keep up'}"
    if value is None:
        return f"too few requests: {level.requests.attempted:,}"
    if interval is not None and interval.low <= limit <= interval.high:
        return "the interval includes the target: measure more requests"
    return None
