"""What a piece of advice is, and the numbers that rules look at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from maxgate.tools.results.level import Level
from maxgate.tools.results.report import Report


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, and the evidence."""

    text: str
    evidence: str


Rule = Callable[[Report], Iterator[Advice]]


def percentile(level: Level, metric: str, percent: str) -> float | None:
    """None where it is not known."""
    found = level.metrics.get(metric)
    return found.percentiles.get(percent) if found else None


def targets(report: Report) -> list[Level]:
    """The levels, without those of a baseline."""
    return [level for level in report.levels if level.side == "target"]


def lightest_and_heaviest(report: Report) -> tuple[Level, Level] | None:
    """Of the first scenario, by requests in flight; None with fewer than two levels."""
    levels = [level for level in targets(report) if level.requests.succeeded]
    by_scenario = [one for one in levels if levels and one.scenario == levels[0].scenario]
    ordered = sorted(by_scenario, key=lambda level: level.in_flight.mean)
    return (ordered[0], ordered[-1]) if len(ordered) >= 2 else None
