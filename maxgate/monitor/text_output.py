"""Output without a screen: plain lines, a page, and JSON.

Plain text has no colours, cursor movements or box characters.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from maxgate.monitor.alerts import Alert
from maxgate.monitor.catalogue import METRICS, format_value
from maxgate.monitor.diagnosis import Cause, Evidence
from maxgate.monitor.histogram import Histogram
from maxgate.monitor.view import View

JSON_VERSION: Final = 1

_COLUMNS: Final = {
    "req": "gateway.requests",
    "failed": "gateway.error_share",
    "P50": "gateway.latency_p50",
    "P95": "gateway.latency_p95",
    "P99": "gateway.latency_p99",
    "ttft P50": "gateway.ttft_p50",
    "ttft P95": "gateway.ttft_p95",
    "tokens": "gateway.output_tokens",
    "flight": "gateway.in_flight",
    "queued": "max.queued",
    "KV": "max.kv_used",
    "gw cpu": "gateway.cpu_per_worker",
    "cpu": "host.cpu",
}
_OPTIONAL_COLUMNS: Final = ("cpu", "gw cpu", "flight", "ttft P95", "P99", "KV", "tokens", "queued")
"""Columns to leave out in a narrow terminal, first one first."""
_TIME_WIDTH: Final = 8
_COLUMN_WIDTH: Final = 9
_LINES_PER_HEADER: Final = 20


def format_alert(alert: Alert, elapsed: float) -> str:
    """For example `requests fail: gateway.error_share 12 % (above 0.1 %) for 30 s`."""
    rule = alert.rule
    bound = rule.above if rule.above is not None else rule.below
    side = "above" if rule.above is not None else "below"
    text = f"{rule.text}: " if rule.text else ""
    value = f"{rule.metric} {format_value(rule.metric, alert.value)}"
    limit = f"{side} {format_value(rule.metric, bound or 0.0)}"
    return f"{text}{value} ({limit}) for {elapsed - alert.since:.0f} s"


def format_evidence(cause: Cause) -> str:
    """The evidence of a cause on one line."""
    return "; ".join(map(str, cause.evidence))


def format_duration(seconds: float) -> str:
    """For example `3 h 12 min`."""
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours >= 48:
        return f"{hours // 24} days"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


class LineFormatter:
    """Formats a line per view, and one for each alert and cause that starts or ends.

    Lines have as many columns as fit into `width`, all of them if it is None.
    """

    def __init__(self, width: int | None = None) -> None:
        self._columns = _choose_columns(width)
        self._line_count = 0
        self._active: tuple[str, ...] = ()

    def format(self, view: View) -> Iterator[str]:
        """The lines for the next view, with a header every 20 views."""
        if self._line_count % _LINES_PER_HEADER == 0:
            yield _format_row("time", list(self._columns))
        self._line_count += 1
        time = datetime.fromtimestamp(view.snapshot.at).astimezone().strftime("%H:%M:%S")
        if view.down_since is None:
            values = view.metrics
            yield _format_row(
                time,
                [
                    format_value(n, values[n]) if n in values else "-"
                    for n in self._columns.values()
                ],
            )
        else:
            yield f"{time}  {view.url}: {view.state}"
        active = (
            *(f"{a.rule.severity}: {a.rule.text or a.rule.metric}" for a in view.alerts),
            *(f"cause: {cause.name}" for cause in view.diagnosis.causes),
        )
        yield from (f"{time}  + {item}" for item in active if item not in self._active)
        yield from (f"{time}  - {item}" for item in self._active if item not in active)
        self._active = active


def _choose_columns(width: int | None) -> Mapping[str, str]:
    if width is None:
        return _COLUMNS
    excess = len(_COLUMNS) - (width - _TIME_WIDTH) // _COLUMN_WIDTH
    omitted = _OPTIONAL_COLUMNS[: max(excess, 0)]
    return {title: name for title, name in _COLUMNS.items() if title not in omitted}


def _format_row(first: str, cells: list[str]) -> str:
    return first.ljust(_TIME_WIDTH) + "".join(cell.rjust(_COLUMN_WIDTH) for cell in cells)


def format_page(view: View) -> Iterator[str]:
    """The lines of a full report, for `--once`."""
    time = datetime.fromtimestamp(view.snapshot.at).astimezone().isoformat(" ", "seconds")
    yield f"{view.url}: {view.state}, {time}"
    yield from (
        f"{alert.rule.severity}: {format_alert(alert, view.snapshot.elapsed)}"
        for alert in view.alerts
    )
    yield from _format_diagnosis(view)
    yield from (
        f"{name:28}{format_value(name, view.metrics[name]):>12}  {metric.description}"
        for name, metric in METRICS.items()
        if name in view.metrics
    )
    yield from (
        f"{outcome:28}{recent:>12}  requests in the window, {total} since the gateway's start"
        for outcome, (recent, total) in view.outcomes.items()
    )
    yield from (f"{engine.url}: {engine.error}" for engine in view.snapshot.engines if engine.error)


def _format_diagnosis(view: View) -> Iterator[str]:
    diagnosis = view.diagnosis
    if diagnosis.slower:
        yield "Slower than usual: " + "; ".join(map(str, diagnosis.slower))
    if not diagnosis.causes:
        yield "No cause found." if diagnosis.slower else "No problems found."
    for index, cause in enumerate(diagnosis.causes):
        yield f"{'Cause' if index == 0 else 'Also'}: {cause.name}"
        yield f"  evidence: {format_evidence(cause)}"
        yield f"  advice:   {cause.advice}"


def build_json(view: View) -> dict[str, Any]:
    """The JSON document for `--once --json`; unknown metrics are null.

    Scripts rely on its keys, so they keep their old names where the code has others.
    """
    metrics = view.metrics
    return {
        "version": JSON_VERSION,
        "at": view.snapshot.at,
        "url": view.url,
        "state": view.state,
        "window_seconds": view.history.window,
        "numbers": {name: metrics.get(name) for name in METRICS},
        "since_start": _build_since_start(view),
        "endings": {
            outcome: {"window": recent, "ever": total}
            for outcome, (recent, total) in view.outcomes.items()
        },
        "engines": [
            {"url": engine.url, "error": engine.error, **engine.gauges, **engine.counters}
            for engine in view.snapshot.engines
        ],
        "gpus": [asdict(gpu) for gpu in view.snapshot.gpus],
        "containers": [asdict(container) for container in view.snapshot.containers],
        "slower": [_build_evidence(evidence) for evidence in view.diagnosis.slower],
        "causes": [
            {
                "name": cause.name,
                "advice": cause.advice,
                "evidence": [_build_evidence(evidence) for evidence in cause.evidence],
            }
            for cause in view.diagnosis.causes
        ],
        "alerts": [
            {
                **alert.rule.model_dump(by_alias=True),
                "value": alert.value,
                "since_seconds": view.snapshot.elapsed - alert.since,
            }
            for alert in view.alerts
        ],
    }


def _build_evidence(evidence: Evidence) -> dict[str, Any]:
    return {"number": evidence.metric, "value": evidence.value, "usual": evidence.usual}


def _build_since_start(view: View) -> dict[str, Any] | None:
    gateway = view.snapshot.gateway
    if gateway is None:
        return None
    return {
        "seconds": gateway.uptime,
        "latency": _summarize(gateway.latency),
        "time_to_first_token": _summarize(gateway.time_to_first_token),
        "time_per_output_token": _summarize(gateway.time_per_output_token),
    }


def _summarize(histogram: Histogram) -> dict[str, float | None]:
    percentiles = {f"p{p}": histogram.percentile(p) for p in (50, 95, 99)}
    return {"count": histogram.count, "mean": histogram.mean, **percentiles}
