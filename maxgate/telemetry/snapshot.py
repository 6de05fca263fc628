"""Counts of all workers at one moment, and their JSON form."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

from maxgate.telemetry.histogram import Histogram
from maxgate.telemetry.registry import (
    MODEL,
    OUTCOME,
    REQUEST_DURATION,
    REQUESTS,
    REQUESTS_IN_FLIGHT,
    TIME_PER_OUTPUT_TOKEN,
    TIME_TO_FIRST_TOKEN,
    TOKEN_TYPE,
    TOKENS,
    Label,
    LabelValues,
    Metric,
)

# Invalid requests and clients that disconnect do not count as errors of the gateway.
_NOT_AN_ERROR: Final = frozenset({"ok", "client_error", "client_gone"})
_HISTOGRAMS: Final = {
    "latency_seconds": REQUEST_DURATION,
    "time_to_first_token_seconds": TIME_TO_FIRST_TOKEN,
    "time_per_output_token_seconds": TIME_PER_OUTPUT_TOKEN,
}


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """CPU time and memory of the running workers."""

    cpu_seconds: float
    resident_bytes: int


@dataclass(slots=True)
class Snapshot:
    """Sums over all workers, by metric and label values.

    `processes` is None if the operating system does not report it.
    """

    counts: defaultdict[Metric, dict[LabelValues, int]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    histograms: defaultdict[Metric, dict[LabelValues, Histogram]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    workers: int = 0
    uptime_seconds: float = 0.0
    processes: ProcessUsage | None = None

    def add_count(self, metric: Metric, labels: LabelValues, count: int) -> None:
        """Add the count of one worker."""
        counts = self.counts[metric]
        counts[labels] = counts.get(labels, 0) + count

    def add_histogram(self, metric: Metric, labels: LabelValues, histogram: Histogram) -> None:
        """Add the histogram of one worker."""
        self.histograms[metric].setdefault(labels, Histogram()).add(histogram)

    def sum_counts(self, metric: Metric, by: Label, model: str | None = None) -> dict[str, int]:
        """Sum a counter by one label, over all models or for one of them."""
        position = metric.labels.index(by)
        sums = dict.fromkeys(by.values or (), 0)
        for labels, count in self.counts[metric].items():
            if model is None or labels[metric.labels.index(MODEL)] == model:
                sums[labels[position]] = sums.get(labels[position], 0) + count
        return sums

    def sum_histograms(self, metric: Metric, model: str | None = None) -> Histogram:
        """Sum a histogram over all models or for one of them."""
        total = Histogram()
        for labels, histogram in self.histograms[metric].items():
            if model is None or labels[metric.labels.index(MODEL)] == model:
                total.add(histogram)
        return total

    def describe(self, *, buckets: bool = False) -> dict[str, Any]:
        """Build the JSON of `/metrics`: totals, then the same for each model.

        The keys are explained in docs/metrics.md. `buckets` adds the buckets of the histograms.
        """
        totals = self._describe(None, buckets=buckets)
        totals["requests"]["in_flight"] = self.counts[REQUESTS_IN_FLIGHT].get((), 0)
        models = sorted(self.sum_counts(REQUESTS, MODEL))
        return {
            **totals,
            "models": {name: self._describe(name, buckets=buckets) for name in models if name},
            "workers": self.workers,
            "processes": self.processes,
            "uptime_seconds": round(self.uptime_seconds, 3),
        }

    def _describe(self, model: str | None, *, buckets: bool) -> dict[str, Any]:
        outcomes = self.sum_counts(REQUESTS, OUTCOME, model)
        tokens = self.sum_counts(TOKENS, TOKEN_TYPE, model)
        count = sum(outcomes.values())
        errors = sum(n for outcome, n in outcomes.items() if outcome not in _NOT_AN_ERROR)
        return {
            "requests": {
                "count": count,
                "errors": errors,
                "error_rate": errors / count if count else 0.0,
                "by_outcome": {outcome: n for outcome, n in outcomes.items() if n},
            },
            **{
                name: self.sum_histograms(metric, model).describe(buckets=buckets)
                for name, metric in _HISTOGRAMS.items()
            },
            "tokens": {**tokens, "total": tokens["prompt"] + tokens["completion"]},
        }
