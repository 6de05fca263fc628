"""What follows from the numbers: grades, comparisons, saturation, drift."""

from typing import Literal

from maxgate.tools.results.base import Part
from maxgate.tools.results.distribution import Interval

Verdict = Literal["pass", "fail", "unclear"]


class Grade(Part):
    """One target and whether it was met."""

    target: str
    """`p50`, `p95`, `p99`, `throughput`, `error_rate`, or an objective's metric."""
    level: str
    limit: float
    better: Literal["lower", "higher"]
    value: float | None
    unit: str
    count: int
    verdict: Verdict
    reason: str
    """One sentence; for `unclear`, why no verdict is given."""


class Change(Part):
    """One number against another, with the interval of the difference `after - before`."""

    metric: str
    statistic: str
    """`p50`, `p95`, `p99`, `mean`, `rate`."""
    level: str
    unit: str
    before: float | None
    after: float | None
    difference: float | None
    interval: Interval | None
    verdict: Literal["same", "better", "worse", "unclear"]
    reason: str


class Saturation(Part):
    """Where more load gave no more throughput."""

    found: bool
    level: str | None
    """The last level that still kept up."""
    reason: str


class Drift(Part):
    """The slope of one metric over a soak, by Theil and Sen, with its interval."""

    metric: str
    level: str
    per_hour: float
    interval: Interval
    relative_per_hour: float | None
    verdict: Literal["steady", "growing", "falling", "unclear"]
