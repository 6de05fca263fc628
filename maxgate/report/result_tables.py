"""Tables of throughput and latency: one row per level."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from maxgate.report.formatting import (
    UNKNOWN,
    DurationUnit,
    choose_duration_unit,
    format_number,
    format_value,
)
from maxgate.report.runs import Run, name_levels, select_interval
from maxgate.results.changes import wilson_interval
from maxgate.results.distribution import Distribution
from maxgate.results.report import Level
from maxgate.results.statistics import min_interval_size

RESULTS: Final = "Results"
"""Start of the title of the table to show first."""

Tone = Literal["", "good", "bad", "unsure"]

_LATENCY_METRICS: Final = (
    "latency", "response_latency", "ttft", "response_ttft", "tpot", "chunk_gap",
)  # fmt: skip
METRIC_NAMES: Final = {
    "latency": "E2E latency",
    "response_latency": "E2E latency from schedule",
    "ttft": "TTFT",
    "response_ttft": "TTFT from schedule",
    "tpot": "ITL",
    "chunk_gap": "chunk gap",
}
_RESULT_PERCENTILES: Final = (
    ("ttft", "50"), ("ttft", "95"), ("tpot", "50"), ("tpot", "95"),
    ("latency", "50"), ("latency", "95"), ("latency", "99"),
)  # fmt: skip
_RESULTS_NOTE: Final = (
    "TTFT: time to first token. ITL: inter-token latency, the mean time per token after the first "
    "of each request. E2E: latency until the last token. Failed: share of requests with its 95 % "
    "Wilson interval. "
    f"{UNKNOWN}: too few responses (P95 needs 20, P99 needs 100), or below the client error."
)
_SCHEDULED_NOTE: Final = "In an open loop, TTFT and E2E count from the scheduled departure."
_CLIENT_ERROR_NOTE: Final = (
    "client ±: the load generator's own timing error (99th percentile). Values below it, or from "
    f"too few requests, are shown as {UNKNOWN}. The P95 interval has 95 % confidence and needs "
    f"{min_interval_size(95)} values."
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text, with an optional tone per row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    tones: Sequence[Tone] = ()
    note: str = ""
    numbers: Sequence[str] = ()
    """Columns of numbers, which are aligned to the right."""
    optional: Sequence[str] = ()
    """Columns to leave out in a narrow terminal, first one first."""

    def tone(self, row: int) -> Tone:
        """Tone of this row; empty if the table has no tones."""
        return self.tones[row] if self.tones else ""


def results_table(runs: Sequence[Run]) -> Table:
    """One row per level with throughput, TTFT, ITL and E2E latency, all in one unit."""
    levels = [*name_levels(runs)]
    headings = {"ttft": "TTFT", "tpot": "ITL", "latency": "E2E"}
    unit = _choose_unit(level for _, level in levels)
    values: dict[str, list[str]] = {
        "output tok/s": [
            format_number(level.throughput.output_tokens) if level.requests.attempted else UNKNOWN
            for _, level in levels
        ],
        "req/s": [
            format_number(level.throughput.requests) if level.requests.attempted else UNKNOWN
            for _, level in levels
        ],
    }
    for metric, percent in _RESULT_PERCENTILES:
        found = [
            distribution.percentiles.get(percent)
            if (distribution := level.find_metric(metric))
            else None
            for _, level in levels
        ]
        if any(value is not None for value in found):
            cells = [UNKNOWN if value is None else unit.format(value) for value in found]
            values[f"{headings[metric]} P{percent}"] = cells
    values["responses"] = [f"{level.requests.succeeded:,}" for _, level in levels]
    values["failed"] = [_format_error_rate(level) for _, level in levels]
    heading, names = _shorten_names([name for name, _ in levels])
    rows = [[name, *(cells[k] for cells in values.values())] for k, name in enumerate(names)]
    tones: list[Tone] = ["bad" if level.requests.failed else "" for _, level in levels]
    scheduled = any("response_latency" in level.metrics for _, level in levels)
    note = f"{_SCHEDULED_NOTE} {_RESULTS_NOTE}" if scheduled else _RESULTS_NOTE
    optional = ["E2E P99", "ITL P95", "responses", "E2E P50", "req/s"]
    return Table(
        f"{RESULTS}, latencies in {unit.name}", [heading, *values], rows, tones, note,
        list(values), optional,
    )  # fmt: skip


def _shorten_names(names: Sequence[str]) -> tuple[str, list[str]]:
    """Return a column heading and names: `concurrency` if each is `concurrency N`."""
    prefix = "concurrency "
    if names and all(name.startswith(prefix) for name in names):
        return prefix.strip(), [name.removeprefix(prefix) for name in names]
    return "level", list(names)


def _choose_unit(levels: Iterable[Level]) -> DurationUnit:
    """The unit of all percentiles, so that columns beside each other can be compared."""
    shown = {metric for metric, _ in _RESULT_PERCENTILES}
    return choose_duration_unit(
        value
        for level in levels
        for metric in shown
        if (found := level.find_metric(metric))
        for value in found.percentiles.values()
        if value is not None
    )


def _format_error_rate(level: Level) -> str:
    failed, attempted = level.requests.failed, level.requests.attempted
    if not attempted:
        return UNKNOWN
    low, high = wilson_interval(failed, attempted, 0.95)
    if not failed:
        return f"0 % (< {_format_percent(high)} %)"
    if failed == attempted:
        return f"100 % (> {_format_percent(low)} %)"
    share = format_value(failed / attempted, "share")
    return f"{share} [{_format_percent(low)}, {_format_percent(high)}]"


def _format_percent(share: float) -> str:
    """Two significant digits of the percentage, or all of 100."""
    percent = share * 100
    return f"{percent:.0f}" if percent >= 10 else f"{percent:.2g}"


def throughput_table(runs: Sequence[Run]) -> Table:
    """One row per level: rates with intervals, and whether the client kept up."""
    rows = []
    for name, level in name_levels(runs):
        throughput, requests = level.throughput, level.requests
        interval = throughput.requests_interval
        rows.append(
            [
                name,
                format_number(throughput.requests) if requests.attempted else UNKNOWN,
                f"[{format_number(interval.low)}, {format_number(interval.high)}]"
                if interval
                else "",
                f"{requests.succeeded:,} of {requests.attempted:,}",
                f"{level.in_flight.mean:.1f} of {level.in_flight.configured or UNKNOWN}",
                UNKNOWN if requests.good is None else f"{requests.good:,}",
                _format_client(level),
            ]
        )
    numbers = ["requests/s", "95 % interval", "successful", "in flight", "met SLO"]
    return Table(
        "Throughput", ["level", *numbers, "client"], rows,
        numbers=numbers, optional=["met SLO", "in flight", "successful"],
    )  # fmt: skip


def _format_client(level: Level) -> str:
    if level.client.limited:
        return f"LIMITED: {level.client.reason or 'it could not keep up'}"
    delay = level.client.late_p99
    return "kept up" if delay is None else f"kept up, send delay P99 {format_value(delay, 's')}"


def latency_table(runs: Sequence[Run]) -> Table:
    """One row per level and metric: percentiles and the client error; one unit per metric."""
    levels = [*name_levels(runs)]
    units = {
        metric: choose_duration_unit(
            level.metrics[metric].max or 0.0 for _, level in levels if metric in level.metrics
        )
        for metric in _LATENCY_METRICS
    }
    rows = []
    for name, level in levels:
        for metric in _LATENCY_METRICS:
            found = level.metrics.get(metric)
            if found is not None and found.count:
                title = f"{METRIC_NAMES[metric]}, {units[metric].name}"
                rows.append(
                    [name, title, f"{found.count:,}", *_format_latency(found, units[metric])]
                )
    numbers = ["n", "P50", "P90", "P95", "P99", "P99.9", "P95 interval", "max"]
    definitions = {name: one for run in runs for name, one in run.report.definitions.items()}
    defined = [
        f"{METRIC_NAMES[key]}: {definitions[key].text}"
        for key in _LATENCY_METRICS
        if key in definitions and any(row[1].startswith(f"{METRIC_NAMES[key]},") for row in rows)
    ]
    return Table(
        "Latency", ["level", "metric", *numbers, "client ±"], rows,
        note=f"{'; '.join(defined)}. {_CLIENT_ERROR_NOTE}", numbers=numbers,
        optional=["client ±", "P99.9", "n", "max", "P90", "P95 interval"],
    )  # fmt: skip


def _format_latency(found: Distribution, unit: DurationUnit) -> list[str]:
    if found.below_client_error:
        return ["below the client error", *[""] * 6, _format_client_error(found)]
    values = [unit.format(found.percentiles.get(key)) for key in ("50", "90", "95", "99", "99.9")]
    interval = select_interval(found, "95")
    ends = f"[{unit.format(interval.low)}, {unit.format(interval.high)}]" if interval else ""
    return [*values, ends, unit.format(found.max), _format_client_error(found)]


def _format_client_error(found: Distribution) -> str:
    """Format the P99 error, and the P99.9 error if that percentile is shown."""
    error = found.client_error
    if error is None:
        return UNKNOWN
    bar = format_value(error.at("99"), "s")
    if found.percentiles.get("99.9") is None:
        return bar
    return f"{bar} (P99.9 {format_value(error.at('99.9'), 's')})"
