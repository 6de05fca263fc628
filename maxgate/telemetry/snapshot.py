"""The counts of all workers at one moment, and what follows from them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from maxgate.generation.request_record import Outcome
from maxgate.telemetry.histogram import BUCKETS, percentile, upper_bound

OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)
# A client that errs or leaves is not an error of the server's.
_FAILURES: Final[frozenset[Outcome]] = frozenset(OUTCOMES) - {"ok", "client_error", "client_gone"}
TIMINGS: Final = ("duration", "time_to_first_token", "time_per_output_token")
TOKENS: Final = ("prompt", "completion", "cached")
_TIMING_NAMES: Final = {
    "duration": "latency_seconds",
    "time_to_first_token": "time_to_first_token_seconds",
    "time_per_output_token": "time_per_output_token_seconds",
}


@dataclass(slots=True)
class Histogram:
    """Durations by bucket (see percentiles.py), and their sum in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    total: float = 0.0

    def add(self, counts: Sequence[int], total: float) -> None:
        """Take in another one's counts."""
        self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]
        self.total += total

    def summary(self) -> dict[str, float | int | None]:
        """Count, mean and percentiles in seconds; null where nothing was counted."""
        count = sum(self.counts)
        return {
            "count": count,
            "mean": self.total / count if count else None,
            "p50": percentile(self.counts, 50),
            "p95": percentile(self.counts, 95),
            "p99": percentile(self.counts, 99),
        }

    def buckets(self) -> list[tuple[float, float | None, int]]:
        """Lower and upper bound in seconds and count of each bucket that holds any.

        The last bucket has no upper bound. One reading of the counts taken from a later one leaves
        what came in between.
        """
        return [
            (0.0 if bucket == 0 else upper_bound(bucket - 1), _finite(upper_bound(bucket)), count)
            for bucket, count in enumerate(self.counts)
            if count
        ]


def _finite(bound: float) -> float | None:
    return None if math.isinf(bound) else bound


@dataclass(slots=True)
class Series:
    """Counts of one route and model."""

    route: str
    model: str
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKENS, 0))
    timings: dict[str, Histogram] = field(
        default_factory=lambda: {name: Histogram() for name in TIMINGS}
    )

    def add(self, other: "Series") -> None:
        """Take in another one's counts."""
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] += count
        for kind, count in other.tokens.items():
            self.tokens[kind] += count
        for name, histogram in other.timings.items():
            self.timings[name].add(histogram.counts, histogram.total)

    def describe(self, *, buckets: bool = False) -> dict[str, Any]:
        """As `/metrics` shows it; the histograms with their buckets where they are asked for."""
        count = sum(self.outcomes.values())
        errors = sum(n for outcome, n in self.outcomes.items() if outcome in _FAILURES)
        return {
            "requests": {
                "count": count,
                "errors": errors,
                "error_rate": errors / count if count else 0.0,
                "by_outcome": {name: n for name, n in self.outcomes.items() if n},
            },
            **{
                _TIMING_NAMES[name]: histogram.summary()
                | ({"buckets": histogram.buckets()} if buckets else {})
                for name, histogram in self.timings.items()
            },
            "tokens": {**self.tokens, "total": self.tokens["prompt"] + self.tokens["completion"]},
        }


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What the running workers have taken; a worker that has died is no longer counted."""

    cpu_seconds: float
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All workers together; `processes` is None where the system does not tell."""

    series: Sequence[Series]
    in_flight: int
    workers: int
    uptime_seconds: float
    processes: ProcessUsage | None = None

    def total(self, series: Iterable[Series] | None = None) -> Series:
        """The sum of these series, or of all."""
        whole = Series("", "")
        for one in self.series if series is None else series:
            whole.add(one)
        return whole

    def describe(self, *, buckets: bool = False) -> dict[str, Any]:
        """The JSON of `/metrics`: everything, then the same by model."""
        by_model: dict[str, list[Series]] = {}
        for one in self.series:
            if one.model:
                by_model.setdefault(one.model, []).append(one)
        whole = self.total().describe(buckets=buckets)
        whole["requests"]["in_flight"] = self.in_flight
        models: Mapping[str, Any] = {
            name: self.total(series).describe(buckets=buckets) for name, series in by_model.items()
        }
        return {
            **whole,
            "models": models,
            "workers": self.workers,
            "processes": self.processes,
            "uptime_seconds": round(self.uptime_seconds, 3),
        }
