"""What stands in each panel of the dashboard."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from rich.table import Table
from rich.text import Text

from maxgate.monitor.catalogue import show, show_bytes
from maxgate.monitor.feed import View
from maxgate.monitor.http_sources import metrics_url
from maxgate.monitor.metrics import kv_used
from maxgate.monitor.snapshot import EngineReading
from maxgate.monitor.text_output import say_alert, say_evidence, say_span

_BLOCKS: Final = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], width: int) -> str:
    """One block per value, higher for more, from zero to the largest; a gap where there is none.

    Fewer values than `width` have blanks before them; of more, neighbours share a block, which
    shows the largest of them, so that no peak is lost.
    """
    shown = _squeezed(values, max(width, 0))
    top = max((value for value in shown if value is not None), default=0.0)
    return "".join(_block(value, top) for value in shown).rjust(max(width, 0))


def _squeezed(values: Sequence[float | None], width: int) -> list[float | None]:
    if len(values) <= width:
        return list(values)
    edges = [index * len(values) // width for index in range(width + 1)] if width else []
    groups = (values[low:high] for low, high in pairwise(edges))
    return [max((v for v in group if v is not None), default=None) for group in groups]


def _block(value: float | None, top: float) -> str:
    if value is None:
        return " "
    if top <= 0:
        return _BLOCKS[0]
    return _BLOCKS[min(int(max(value, 0.0) / top * len(_BLOCKS)), len(_BLOCKS) - 1)]


def bar(share: float, width: int) -> str:
    """A share of 1 as a bar of this many characters."""
    full = round(min(max(share, 0.0), 1.0) * width)
    return "━" * full + "╌" * (width - full)


NOT_KNOWN: Final = "-"


def new_table(*columns: str) -> Table:
    """A table without lines; numbers are set to the right."""
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim")
    for index, column in enumerate(columns):
        left = index == 0 or column.startswith(("trend", "state"))
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    return table


def value_of(view: View, name: str) -> Text:
    """The number now, coloured where a rule is broken."""
    value = view.numbers.get(name)
    if value is None:
        return Text(NOT_KNOWN, style="dim")
    severities = [alert.rule.severity for alert in view.alerts if alert.rule.number == name]
    style = {"critical": "bold red", "warning": "bold yellow"}.get(min(severities, default=""), "")
    return Text(show(name, value), style=style)


def bar_of(share: float, width: int, *, full_is_bad: bool = True) -> Text:
    """A share as a bar, coloured by how full it is where full is bad."""
    if not full_is_bad:
        return Text(bar(share, width), style="cyan")
    style = "red" if share >= 0.95 else "yellow" if share >= 0.8 else "green"
    return Text(bar(share, width), style=style)


_COLUMNS: Final = ("running", "queued", "waiting", "decode batch", "KV", "hits", "evicted")
_NARROW: Final = ("running", "queued", "KV", "evicted")
_ROOM_FOR_ALL: Final = 100


def engines(view: View, width: int) -> Table:
    """Each engine's state as the gateway sees it, and MAX's own numbers."""
    columns = _COLUMNS if width >= _ROOM_FOR_ALL else _NARROW
    table = new_table("engine", "state", *columns)
    readings = {engine.url: engine for engine in view.snapshot.engines}
    gateway = view.snapshot.gateway
    for state in gateway.engines if gateway else ():
        reading = readings.pop(metrics_url(state.url), None)
        style = "green" if state.state == "healthy" else "bold red"
        said = state.state if state.error is None else f"{state.state}: {state.error}"
        table.add_row(state.url, Text(said, style=style), *_cells(reading, columns))
    for url, reading in readings.items():
        said = reading.error or "metrics only"
        table.add_row(url, Text(said, style="dim"), *_cells(reading, columns))
    return table


def _cells(reading: EngineReading | None, columns: Sequence[str]) -> list[str]:
    if reading is None:
        return [NOT_KNOWN] * len(columns)
    if reading.error is not None:
        return [f"no metrics: {reading.error}"]
    told = _told(reading)
    return [told[column] for column in columns]


def _told(reading: EngineReading) -> dict[str, str]:
    gauges, counters = reading.gauges, reading.counters
    batch = reading.histograms.get("batch_size_decode")
    hits = counters.get("cache_hit_tokens", 0)
    prompts = hits + counters.get("cache_miss_tokens", 0)
    used = kv_used(reading)
    return {
        "running": _count(gauges.get("running")),
        "queued": _count(gauges.get("queued")),
        "waiting": _count(gauges.get("awaiting_admission")),
        "decode batch": NOT_KNOWN if batch is None or batch.mean is None else f"{batch.mean:.1f}",
        "KV": NOT_KNOWN if used is None else f"{used:.0%}",
        "hits": f"{hits / prompts:.0%}" if prompts else NOT_KNOWN,
        "evicted": _count(counters.get("preemptions")),
    }


def _count(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{value:,.0f}"


def machine(view: View, width: int) -> Table:
    """Processor, memory and disk of gateway, machine, GPUs and containers."""
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    size = max(width - 42, 6)
    for title, name, detail in _shares(view):
        share = view.numbers.get(name)
        if share is not None:
            table.add_row(title, bar_of(share, size), f"{show(name, share)}{detail}")
    for gpu in view.snapshot.gpus:
        slowed = f", slowed by {', '.join(gpu.slowed_by)}" if gpu.slowed_by else ""
        watts = "" if gpu.power_watts is None else f" {gpu.power_watts:.0f} W"
        detail = f"{gpu.utilisation:.0%}{watts}{slowed}"
        table.add_row(
            f"GPU {gpu.index} {gpu.name}", bar_of(gpu.utilisation, size, full_is_bad=False), detail
        )
        memory = gpu.memory_used / gpu.memory_total
        table.add_row("  memory", bar_of(memory, size), show_bytes(gpu.memory_used))
    for container in view.snapshot.containers:
        share = container.memory_used / container.memory_limit if container.memory_limit else 0.0
        detail = f"{container.status} {show_bytes(container.memory_used)}"
        table.add_row(f"container {container.name}", bar_of(share, size), detail)
    return table


def _shares(view: View) -> list[tuple[str, str, str]]:
    gateway, host = view.snapshot.gateway, view.snapshot.host
    memory = gateway.resident_bytes if gateway else None
    workers = gateway.workers if gateway else 0
    per = f" x {workers}, {show_bytes(memory)}" if memory is not None else ""
    return [
        ("gateway CPU/worker", "gateway.cpu_per_worker", per),
        ("this machine CPU", "host.cpu", f" of {host.cores}" if host else ""),
        ("  memory", "host.memory", f" of {show_bytes(host.memory_total)}" if host else ""),
        ("  disk", "host.disk", f" of {show_bytes(host.disk_total)}" if host else ""),
    ]


_POINTS: Final = 300  # five minutes at a look a second
_TIMINGS: Final = {
    "whole answer": "gateway.latency",
    "first token": "gateway.ttft",
    "per token": "gateway.tpot",
    "MAX: first token": "max.ttft",
    "MAX: per token": "max.tpot",
}
_TRAFFIC: Final = {
    "requests": "gateway.requests",
    "tokens out": "gateway.output_tokens",
    "tokens in": "gateway.prompt_tokens",
    "in flight": "gateway.in_flight",
    "queued in MAX": "max.queued",
    "failed": "gateway.error_share",
}


def _growth(view: View, name: str) -> Text:
    now, usual = view.numbers.get(name), view.history.usual(name)
    if now is None or not usual:
        return Text("")
    if 2 / 3 < now / usual < 1.5:
        return Text("→", style="dim")
    rising = now > usual
    return Text(
        f"{'▲' if rising else '▼'}{now / usual:.1f}x", style="yellow" if rising else "green"
    )


def latency(view: View, width: int) -> Table:
    """Percentiles over the window, their trend, and P95 against its usual value."""
    table = new_table("", "P50", "P95", "P99", "trend of P95", "")
    for title, name in _TIMINGS.items():
        trend = sparkline(view.history.trend(f"{name}_p95", _POINTS), max(width - 52, 8))
        table.add_row(
            title,
            *(value_of(view, f"{name}_p{p}") for p in (50, 95, 99)),
            Text(trend, style="cyan"),
            _growth(view, f"{name}_p95"),
        )
    return table


def traffic(view: View, width: int) -> Table:
    """Rates and depths."""
    table = new_table("", "now", "trend")
    for title, name in _TRAFFIC.items():
        trend = sparkline(view.history.trend(name, _POINTS), max(width - 26, 8))
        table.add_row(title, value_of(view, name), Text(trend, style="cyan"))
    return table


def diagnosis(view: View, width: int) -> Text:  # noqa: ARG001  # wraps
    """What is slower, why, and what to do."""
    found, text = view.diagnosis, Text()
    for evidence in found.slower:
        text.append(f"slower: {evidence}\n", style="yellow")
    if not found.causes:
        said = "the numbers name no cause" if found.slower else "nothing is wrong"
        return text.append(said, style="yellow" if found.slower else "green")
    for index, cause in enumerate(found.causes):
        text.append(f"{cause.name}\n", style="bold red" if index == 0 else "yellow")
        text.append(f"{say_evidence(cause)}\n")
        text.append(f"→ {cause.advice}\n", style="italic")
    return text


def errors(view: View, width: int) -> Table | Text:  # noqa: ARG001  # narrow by nature
    """Requests that did not end well, by kind."""
    if not view.endings:
        return Text("none", style="green")
    table = new_table("kind", f"last {view.history.window:.0f} s", "ever")
    for outcome, (recent, ever) in view.endings.items():
        own = outcome in {"client_error", "client_gone"}
        style = "dim" if own or not recent else "bold red"
        table.add_row(outcome, Text(f"{recent:,}", style=style), f"{ever:,}")
    return table


def headline(view: View, width: int) -> Text:  # noqa: ARG001  # one line
    """Who is watched, how it is, and since when."""
    gateway = view.snapshot.gateway
    well = view.away_since is None and view.state == "healthy"
    text = Text.assemble(
        (view.url, "bold"), "  ", (view.state, "bold green" if well else "bold red")
    )
    if gateway is not None:
        workers = f"{gateway.workers} worker{'s' if gateway.workers != 1 else ''}"
        text.append(f"  up {say_span(gateway.uptime)}, {workers}", style="dim")
    return text


def alerts(view: View, width: int) -> Text:  # noqa: ARG001  # wraps
    """One line per alert; empty without any."""
    lines = [
        Text(
            f" {alert.rule.severity}: {say_alert(alert, view.snapshot.elapsed)}",
            style="bold white on red" if alert.rule.severity == "critical" else "black on yellow",
        )
        for alert in view.alerts
    ]
    return Text("\n").join(lines)


Panel = Callable[[View, int], Table | Text]
"""What to show in so many columns."""

PANELS: Final[Mapping[str, tuple[str, Panel]]] = {
    "latency": ("Latency", latency),
    "traffic": ("Traffic", traffic),
    "engines": ("Engines", engines),
    "diagnosis": ("Diagnosis", diagnosis),
    "machine": ("Machine", machine),
    "errors": ("Errors", errors),
}
"""By the widget's id: title and content."""
