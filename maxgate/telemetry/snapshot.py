"""Counts of all workers at one moment, and their JSON form."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from maxgate.telemetry.histogram import Histogram
from maxgate.telemetry.registry import (
    GENERATION_ROUTES,
    MODEL,
    OUTCOME,
    REQUEST_DURATION,
    REQUESTS,
    REQUESTS_IN_FLIGHT,
    ROUTE,
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
Selection = Mapping[Label, Collection[str]]
"""The values of some labels; samples with others are left out."""
EVERYTHING: Final[Selection] = {}


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """CPU time and memory of the running workers.

    `open_files` and `max_files` are the file descriptors, and their limit, of the worker that is
    closest to it; 0 if not known.
    """

    cpu_seconds: float
    resident_bytes: int
    open_files: int = 0
    max_files: int = 0


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

    def sum_counts(
        self, metric: Metric, by: Label, selection: Selection = EVERYTHING
    ) -> dict[str, int]:
        """Sum the selected samples of a counter by one label."""
        position = metric.labels.index(by)
        sums = dict.fromkeys(by.values or (), 0)
        for labels, count in self.counts[metric].items():
            if _is_selected(metric, labels, selection):
                sums[labels[position]] = sums.get(labels[position], 0) + count
        return sums

    def sum_histograms(self, metric: Metric, selection: Selection = EVERYTHING) -> Histogram:
        """Sum the selected samples of a histogram."""
        total = Histogram()
        for labels, histogram in self.histograms[metric].items():
            if _is_selected(metric, labels, selection):
                total.add(histogram)
        return total

    def describe(self, *, buckets: bool = False) -> dict[str, Any]:
        """Build the JSON of `/metrics`: totals, then the same for each model and each route.

        The keys are explained in docs/metrics.md. `buckets` adds the buckets of the histograms.
        """
        requests = self._describe_requests(EVERYTHING)
        requests["in_flight"] = self.counts[REQUESTS_IN_FLIGHT].get((), 0)
        models = sorted(self.sum_counts(REQUESTS, MODEL))
        routes = sorted(self.sum_counts(REQUESTS, ROUTE))
        return {
            "requests": requests,
            # The times of other routes, such as /v1/models, would say nothing about generation.
            **self._describe_times({ROUTE: GENERATION_ROUTES}, buckets=buckets),
            "tokens": self._describe_tokens(EVERYTHING),
            "models": {
                name: self._describe({MODEL: [name]}, buckets=buckets) for name in models if name
            },
            "routes": {path: self._describe({ROUTE: [path]}, buckets=buckets) for path in routes},
            "workers": self.workers,
            "processes": self.processes,
            "uptime_seconds": round(self.uptime_seconds, 3),
        }

    def _describe(self, selection: Selection, *, buckets: bool) -> dict[str, Any]:
        return {
            "requests": self._describe_requests(selection),
            **self._describe_times(selection, buckets=buckets),
            "tokens": self._describe_tokens(selection),
        }

    def _describe_requests(self, selection: Selection) -> dict[str, Any]:
        outcomes = self.sum_counts(REQUESTS, OUTCOME, selection)
        count = sum(outcomes.values())
        errors = sum(n for outcome, n in outcomes.items() if outcome not in _NOT_AN_ERROR)
        return {
            "count": count,
            "errors": errors,
            "error_rate": errors / count if count else 0.0,
            "by_outcome": {outcome: n for outcome, n in outcomes.items() if n},
        }

    def _describe_times(self, selection: Selection, *, buckets: bool) -> dict[str, Any]:
        return {
            name: self.sum_histograms(metric, selection).describe(buckets=buckets)
            for name, metric in _HISTOGRAMS.items()
        }

    def _describe_tokens(self, selection: Selection) -> dict[str, int]:
        tokens = self.sum_counts(TOKENS, TOKEN_TYPE, selection)
        return {**tokens, "total": tokens["prompt"] + tokens["completion"]}


def _is_selected(metric: Metric, labels: LabelValues, selection: Selection) -> bool:
    return all(labels[metric.labels.index(by)] in values for by, values in selection.items())
