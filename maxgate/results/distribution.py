"""One metric of one level: where its values lie."""

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A part of a report.

    Times are seconds and `_at` a date in UTC. What could not be measured is null, never 0. Fields
    that this version does not know are passed over, so that newer minor versions can be read.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Interval(Part):
    """Where the true value lies with this confidence, by block bootstrap."""

    low: float
    high: float
    confidence: float = 0.95


class Histogram(Part):
    """`counts[i]` values lie above `bounds[i]` and at or below `bounds[i + 1]`.

    The bounds are 2 ** (k / 16) microseconds with consecutive whole k: the histograms of two
    reports can be added without loss. Values of 0 and below are in the first bucket.
    """

    bounds: list[float]
    counts: list[int]


class ClientError(Part):
    """What the client itself adds to one value of a metric, from the calibration run.

    `mean`, `p99`, `p999` and `max` are those of the absolute difference between what the client
    measured and what the scripted responder noted, no smaller than how late the client was woken
    in the run itself; `bias` is the mean of the signed one. A percentile is as uncertain as the
    errors that are as rare as the values beyond it, or as the values there are themselves, see
    `at`.
    """

    bias: float
    mean: float
    p99: float
    p999: float | None = None
    """Of 99.9 %; null in reports of older programs."""
    max: float
    count: int
    held: dict[str, float] = Field(default_factory=dict)
    """By percentile: how far off it may be because the client, busy with other answers, stamped
    late. Empty in reports of older programs."""

    def elementwise_max(self, other: "ClientError") -> "ClientError":
        """Number by number, of two machines that loaded together or of two measurements."""
        return ClientError(
            bias=max(self.bias, other.bias),
            mean=max(self.mean, other.mean),
            p99=max(self.p99, other.p99),
            p999=max(self.usual("99.9"), other.usual("99.9")),
            max=max(self.max, other.max),
            count=self.count + other.count,
            held={
                key: max(self.held.get(key, 0.0), other.held.get(key, 0.0))
                for key in self.held | other.held
            },
        )

    def at(self, percentile: str) -> float:
        """The error bar of the percentile with this key.

        `p999` beyond the 99th, else `p99`; what was held up was carried and woken up for besides,
        like any other.
        """
        usual, held = self.usual(percentile), self.held.get(percentile)
        return max(usual, self.mean + held) if held else usual

    def usual(self, percentile: str) -> float:
        """The same without what was held up."""
        return self.p99 if float(percentile) <= 99 or self.p999 is None else self.p999


class Distribution(Part):
    """The values of one metric.

    Percentiles are nearest-rank on exact values; keys are "50", "90", "95", "99", "99.9". One is
    null where the sample is too small for it (99 needs 100 values, 99.9 needs 1,000) or where it
    is smaller than the client's own error. `including_failures` counts every failed request as
    slower than all others; null there means that so many failed.
    """

    metric: str
    """The key of its definition in `Report.definitions`."""
    unit: str
    count: int
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    percentiles: dict[str, float | None] = Field(default_factory=dict)
    intervals: dict[str, Interval] = Field(default_factory=dict)
    """By the percentile's key, and "mean"."""
    including_failures: dict[str, float | None] = Field(default_factory=dict)
    curve: list[tuple[float, float]] = Field(default_factory=list)
    """Percent and value, rising, as far as the sample allows; for plots."""
    histogram: Histogram | None = None
    client_error: ClientError | None = None
    below_client_error: bool = False
    """The values are smaller than the client's own error: they are left out, this is why."""
