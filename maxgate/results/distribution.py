"""Models of one metric's values: percentiles, intervals, histogram and client error."""

from itertools import pairwise
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ReportModel(BaseModel):
    """Base of all models in a report.

    Durations are in seconds; fields ending in `_at` are UTC dates. A value that could not be
    measured is null, never 0. Unknown fields are ignored, so reports of newer minor versions load.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Interval(ReportModel):
    """A confidence interval, from a block bootstrap."""

    low: float
    high: float
    confidence: float = 0.95


class Histogram(ReportModel):
    """`counts[i]` values are above `bounds[i]` and at most `bounds[i + 1]`.

    Bounds are 2 ** (k / 16) microseconds for consecutive integers k, so histograms of different
    reports can be added without loss. The first bucket also counts values of 0 and below.
    """

    bounds: list[float]
    counts: list[int]

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if len(self.bounds) != len(self.counts) + 1:
            raise ValueError("a histogram needs one bound more than counts")
        if self.bounds[0] <= 0 or any(low >= high for low, high in pairwise(self.bounds)):
            raise ValueError("the bounds of a histogram must be positive and ascending")
        return self


class ClientError(ReportModel):
    """Timing error that the load generator adds to each value of a metric, from calibration.

    `mean`, `p99`, `p999` and `max` describe the absolute difference between the times measured by
    the client and those logged by the mock server; none is smaller than the wake-up lag seen during
    the run. `bias` is the mean signed difference. The error bar of a percentile is the error
    percentile of the same rarity, see `at`.
    """

    bias: float
    mean: float
    p99: float
    p999: float | None = None
    """99.9th percentile; null in reports of older versions."""
    max: float
    count: int
    held: dict[str, float] = Field(default_factory=dict)
    """Error per percentile key caused by late timestamps while the client was busy with other
    responses. Empty in reports of older versions."""

    def elementwise_max(self, other: "ClientError") -> "ClientError":
        """Combine errors of two load generators, or of two calibrations."""
        return ClientError(
            bias=max(self.bias, other.bias),
            mean=max(self.mean, other.mean),
            p99=max(self.p99, other.p99),
            p999=max(self.calibrated("99.9"), other.calibrated("99.9")),
            max=max(self.max, other.max),
            count=self.count + other.count,
            held={
                key: max(self.held.get(key, 0.0), other.held.get(key, 0.0))
                for key in self.held | other.held
            },
        )

    def at(self, percentile: str) -> float:
        """Error bar of the percentile with this key: `p999` above the 99th, `p99` otherwise.

        A late timestamp adds to the mean error, because the response was also transmitted and the
        client woken, like for every other value.
        """
        calibrated, held = self.calibrated(percentile), self.held.get(percentile)
        return max(calibrated, self.mean + held) if held else calibrated

    def calibrated(self, percentile: str) -> float:
        """Error bar from the calibration alone, without `held`."""
        return self.p99 if float(percentile) <= 99 or self.p999 is None else self.p999


class Distribution(ReportModel):
    """The values of one metric.

    Percentiles are nearest-rank on exact values, with keys "50", "90", "95", "99" and "99.9". A
    percentile is null if the sample is too small for it (P99 needs 100 values, P99.9 needs 1,000)
    or if it is smaller than the client error. `including_failures` counts every failed request as
    slower than all others; a percentile that falls on a failed request is null.
    """

    metric: str
    """Key of the metric's definition in `Report.definitions`."""
    unit: str
    count: int
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    percentiles: dict[str, float | None] = Field(default_factory=dict)
    intervals: dict[str, Interval] = Field(default_factory=dict)
    """Keys are percentile keys and "mean"."""
    including_failures: dict[str, float | None] = Field(default_factory=dict)
    curve: list[tuple[float, float]] = Field(default_factory=list)
    """Ascending (percent, value) pairs for plots, as far as the sample allows."""
    histogram: Histogram | None = None
    client_error: ClientError | None = None
    below_client_error: bool = False
    """Whether the values are omitted because they are smaller than the client error."""
