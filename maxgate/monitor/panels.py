"""Contents of the dashboard's panels, as Rich tables and texts."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from rich.table import Table
from rich.text import Text

from maxgate.monitor.catalogue import format_bytes, format_value
from maxgate.monitor.http_sources import metrics_url
from maxgate.monitor.metrics import CLIENT_OUTCOMES, kv_cache_usage
from maxgate.monitor.snapshot import EngineReading
from maxgate.monitor.text_output import format_alert, format_duration, format_evidence
from maxgate.monitor.view import View

UNKNOWN: Final = "-"

# Without the full block, so that trends in adjacent lines do not touch.
_BLOCKS: Final = "▁▂▃▄▅▆▇"
_TREND_POINTS: Final = 300  # five minutes at one sample per second
_LATENCIES: Final = {
    "request": "gateway.latency",
    "first token": "gateway.ttft",
    "per token": "gateway.tpot",
    "MAX: first token": "max.ttft",
    "MAX: per token": "max.tpot",
}
_TRAFFIC: Final = {
    "requests": "gateway.requests",
    "output tokens": "gateway.output_tokens",
    "prompt tokens": "gateway.prompt_tokens",
    "in flight": "gateway.in_flight",
    "queued in MAX": "max.queued",
    "failed": "gateway.error_share",
}
_ENGINE_COLUMNS: Final = ("running", "queued", "waiting", "decode batch", "KV", "hits", "evicted")
_NARROW_ENGINE_COLUMNS: Final = ("running", "queued", "KV", "evicted")
_MAX_ENGINES: Final = 16
_BAD: Final = "bold #ff8787"  # light, because without colors its brightness remains
_STATE_STYLES: Final = {"healthy": "green", "draining": "yellow"}
_MIN_WIDTH_OF_ALL_COLUMNS: Final = 100


def sparkline(values: Sequence[float | None], width: int) -> str:
    """Draw one block per value, scaled from zero to the maximum; blank for None.

    Fewer values than `width` are padded on the left. More values share blocks, each of which shows
    the maximum of its values, so that peaks stay visible.
    """
    shown = _downsample(values, max(width, 0))
    top = max((value for value in shown if value is not None), default=0.0)
    return "".join(_draw_block(value, top) for value in shown).rjust(max(width, 0))


def _downsample(values: Sequence[float | None], width: int) -> list[float | None]:
    if len(values) <= width:
        return list(values)
    edges = [index * len(values) // width for index in range(width + 1)] if width else []
    groups = (values[low:high] for low, high in pairwise(edges))
    return [max((v for v in group if v is not None), default=None) for group in groups]


def _draw_block(value: float | None, top: float) -> str:
    if value is None:
        return " "
    if top <= 0:
        return _BLOCKS[0]
    return _BLOCKS[min(int(max(value, 0.0) / top * len(_BLOCKS)), len(_BLOCKS) - 1)]


def bar(share: float, width: int) -> str:
    """Draw a share between 0 and 1 as a bar of `width` characters."""
    full = round(min(max(share, 0.0), 1.0) * width)
    return "━" * full + "╌" * (width - full)


def _coloured_bar(share: float, width: int, *, full_is_bad: bool = True) -> Text:
    if not full_is_bad:
        return Text(bar(share, width), style="cyan")
    style = "#ff8787" if share >= 0.95 else "yellow" if share >= 0.8 else "green"
    return Text(bar(share, width), style=style)


def _metric_text(view: View, name: str) -> Text:
    """The current value, coloured if an alert on this metric is firing."""
    value = view.metrics.get(name)
    if value is None:
        return Text(UNKNOWN, style="dim")
    severities = [alert.rule.severity for alert in view.alerts if alert.rule.metric == name]
    style = {"critical": _BAD, "warning": "bold yellow"}.get(min(severities, default=""), "")
    return Text(format_value(name, value), style=style)


def _new_table(*columns: str) -> Table:
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim")
    for index, column in enumerate(columns):
        left = index == 0 or column.startswith(("trend", "state"))
        table.add_column(
            column, justify="left" if left else "right", no_wrap=True, min_width=len(column)
        )
    return table


def headline(view: View, width: int) -> Text:  # noqa: ARG001  # one line
    """The gateway's URL, state, uptime and workers."""
    gateway = view.snapshot.gateway
    style = "bold green" if view.serves_fully else _BAD
    text = Text.assemble((view.url, "bold"), "  ", (view.state, style))
    if gateway is not None:
        workers = f"{gateway.workers} worker{'s' if gateway.workers != 1 else ''}"
        text.append(f"  up {format_duration(gateway.uptime)}, {workers}", style="dim")
    return text


def alerts(view: View, width: int) -> Text:  # noqa: ARG001  # wraps
    """One line per firing alert."""
    lines = [
        Text(
            f" {alert.rule.severity}: {format_alert(alert, view.snapshot.elapsed)}",
            style="bold white on red" if alert.rule.severity == "critical" else "black on yellow",
        )
        for alert in view.alerts
    ]
    return Text("\n").join(lines)


def latency(view: View, width: int) -> Table:
    """Percentiles over the window, the trend of P95, and P95 compared with its usual value."""
    trend_width = max(width - 53, 5)
    trend_title = "trend of P95" if trend_width >= len("trend of P95") else "trend"
    table = _new_table("", "P50", "P95", "P99", trend_title, "")
    for title, name in _LATENCIES.items():
        trend = sparkline(view.history.trend(f"{name}_p95", _TREND_POINTS), trend_width)
        table.add_row(
            title,
            *(_metric_text(view, f"{name}_p{p}") for p in (50, 95, 99)),
            Text(trend, style="cyan"),
            _growth_text(view, f"{name}_p95"),
        )
    return table


def _growth_text(view: View, name: str) -> Text:
    value, usual = view.metrics.get(name), view.history.usual_value(name)
    if value is None or not usual:
        return Text("")
    if 2 / 3 < value / usual < 1.5:
        return Text("→", style="dim")
    arrow, style = ("▲", "yellow") if value > usual else ("▼", "green")
    return Text(f"{arrow}{value / usual:.1f}x", style=style)


def traffic(view: View, width: int) -> Table:
    """Rates and queue lengths, with their trends."""
    table = _new_table("", "now", "trend")
    for title, name in _TRAFFIC.items():
        trend = sparkline(view.history.trend(name, _TREND_POINTS), max(width - 26, 8))
        table.add_row(title, _metric_text(view, name), Text(trend, style="cyan"))
    return table


def engines(view: View, width: int) -> Table:
    """Each engine's state in the gateway and its own metrics, those with problems first."""
    columns = _ENGINE_COLUMNS if width >= _MIN_WIDTH_OF_ALL_COLUMNS else _NARROW_ENGINE_COLUMNS
    table = _new_table("engine", "state", *columns)
    rows = sorted(_list_engines(view), key=lambda row: (row[2] != _BAD, -_get_queue(row[3])))
    shown = rows if len(rows) <= _MAX_ENGINES else rows[: _MAX_ENGINES - 1]
    for url, state, style, reading in shown:
        cells = _engine_cells(reading, columns)
        table.add_row(re.sub(r"^http://", "", url), Text(state, style=style), *cells)
    if hidden := rows[len(shown) :]:
        unhealthy = sum(row[2] == _BAD for row in hidden)
        state = f"{unhealthy} unhealthy" if unhealthy else "none unhealthy"
        table.add_row(Text(f"{len(hidden)} more", style="dim"), Text(state, style="dim"))
    elif not rows and view.down_since is not None:
        table.add_row(Text("unknown until the gateway responds", style="dim"))
    return table


EngineRow = tuple[str, str, str, EngineReading | None]
"""URL, state, style of the state, and the engine's own metrics."""


def _list_engines(view: View) -> Iterator[EngineRow]:
    readings = {engine.url: engine for engine in view.snapshot.engines}
    gateway = view.snapshot.gateway
    for engine in gateway.engines if gateway else ():
        reading = readings.pop(metrics_url(engine.url), None)
        style = _STATE_STYLES.get(engine.state, _BAD)
        state = engine.state if engine.error is None else f"{engine.state}: {engine.error}"
        yield engine.url, state, style, reading
    for url, reading in readings.items():
        yield url, reading.error or "metrics only", "dim", reading


def _get_queue(reading: EngineReading | None) -> float:
    return reading.gauges.get("queued", 0.0) if reading is not None else 0.0


def _engine_cells(reading: EngineReading | None, columns: Sequence[str]) -> list[str]:
    if reading is None:
        return [UNKNOWN] * len(columns)
    if reading.error is not None:
        return [f"no metrics: {reading.error}"]
    gauges, counters = reading.gauges, reading.counters
    batch = reading.histograms.get("batch_size_decode")
    hits = counters.get("cache_hit_tokens", 0)
    prompt_tokens = hits + counters.get("cache_miss_tokens", 0)
    usage = kv_cache_usage(reading)
    cells = {
        "running": _format_count(gauges.get("running")),
        "queued": _format_count(gauges.get("queued")),
        "waiting": _format_count(gauges.get("awaiting_admission")),
        "decode batch": UNKNOWN if batch is None or batch.mean is None else f"{batch.mean:.1f}",
        "KV": UNKNOWN if usage is None else f"{usage:.0%}",
        "hits": f"{hits / prompt_tokens:.0%}" if prompt_tokens else UNKNOWN,
        "evicted": _format_count(counters.get("preemptions")),
    }
    return [cells[column] for column in columns]


def _format_count(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"


def diagnosis(view: View, width: int) -> Text:  # noqa: ARG001  # wraps
    """Latencies slower than usual, and causes with their evidence and advice."""
    slower, causes = view.diagnosis.slower, view.diagnosis.causes
    text = Text()
    for evidence in slower:
        text.append(f"slower: {evidence}\n", style="yellow")
    if not causes:
        message = "no cause found" if slower else "no problems found"
        return text.append(message, style="yellow" if slower else "green")
    for index, cause in enumerate(causes):
        text.append(f"{cause.name}\n", style=_BAD if index == 0 else "yellow")
        text.append(f"{format_evidence(cause)}\n")
        text.append(f"→ {cause.advice}\n", style="italic")
    return text


def host(view: View, width: int) -> Table:
    """Resource usage of the gateway, the host, GPUs and containers."""
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    bar_width = max(width - 42, 6)
    for title, name, details in _host_rows(view):
        share = view.metrics.get(name)
        if share is not None:
            value = f"{format_value(name, share)}{details}"
            table.add_row(title, _coloured_bar(share, bar_width), value)
    for title, share, details, full_is_bad in _device_rows(view):
        table.add_row(title, _coloured_bar(share, bar_width, full_is_bad=full_is_bad), details)
    return table


def _host_rows(view: View) -> list[tuple[str, str, str]]:
    """Title, metric, and details after its value."""
    gateway, host = view.snapshot.gateway, view.snapshot.host
    memory = gateway.resident_bytes if gateway else None
    workers = gateway.workers if gateway else 0
    per_worker = f" x {workers}, {format_bytes(memory)}" if memory is not None else ""
    return [
        ("gateway CPU/worker", "gateway.cpu_per_worker", per_worker),
        ("host CPU", "host.cpu", f" of {host.cores}" if host else ""),
        ("  memory", "host.memory", f" of {format_bytes(host.memory_total)}" if host else ""),
        ("  disk", "host.disk", f" of {format_bytes(host.disk_total)}" if host else ""),
    ]


def _device_rows(view: View) -> Iterator[tuple[str, float, str, bool]]:
    """Title, share, details, and whether a full bar is bad."""
    for gpu in view.snapshot.gpus:
        throttled = f", throttled: {', '.join(gpu.slowed_by)}" if gpu.slowed_by else ""
        watts = "" if gpu.power_watts is None else f" {gpu.power_watts:.0f} W"
        details = f"{gpu.utilisation:.0%}{watts}{throttled}"
        yield f"GPU {gpu.index} {gpu.name}", gpu.utilisation, details, False
        yield "  memory", gpu.memory_used / gpu.memory_total, format_bytes(gpu.memory_used), True
    for container in view.snapshot.containers:
        share = container.memory_used / container.memory_limit if container.memory_limit else 0.0
        details = f"{container.status} {format_bytes(container.memory_used)}"
        yield f"container {container.name}", share, details, True


def errors(view: View, width: int) -> Table | Text:  # noqa: ARG001  # narrow by nature
    """Unsuccessful requests by outcome."""
    if not view.outcomes:
        is_down = view.down_since is not None
        return Text("unknown", style="dim") if is_down else Text("none", style="green")
    table = _new_table("outcome", f"last {view.history.window:.0f} s", "total")
    for outcome, (recent, total) in view.outcomes.items():
        style = "dim" if outcome in CLIENT_OUTCOMES or not recent else _BAD
        table.add_row(outcome, Text(f"{recent:,}", style=style), f"{total:,}")
    return table


Panel = Callable[[View, int], Table | Text]
"""Renders a view for a width in columns."""

PANELS: Final[Mapping[str, tuple[str, Panel]]] = {
    "latency": ("Latency", latency),
    "traffic": ("Traffic", traffic),
    "engines": ("Engines", engines),
    "diagnosis": ("Diagnosis", diagnosis),
    "host": ("Host", host),
    "errors": ("Errors", errors),
}
"""Title and renderer by widget ID."""
