"""The engines, as the gateway sees them and as they see themselves."""

from rich.table import Table
from rich.text import Text

from maxgate.tools.monitor.numbers import kv_used
from maxgate.tools.monitor.panels.cells import NOT_KNOWN, new_table
from maxgate.tools.monitor.snapshot import EngineReading
from maxgate.tools.monitor.sources import metrics_url
from maxgate.tools.monitor.watch import View


def engines(view: View, width: int) -> Table:  # noqa: ARG001  # rich cuts what does not fit
    """Each engine's state as the gateway sees it, and MAX's own numbers."""
    table = new_table(
        "engine", "state", "running", "queued", "waiting", "decode batch", "KV", "hits", "evicted"
    )
    readings = {engine.url: engine for engine in view.snapshot.engines}
    gateway = view.snapshot.gateway
    for state in gateway.engines if gateway else ():
        reading = readings.pop(metrics_url(state.url), None)
        style = "green" if state.state == "healthy" else "bold red"
        said = state.state if state.error is None else f"{state.state}: {state.error}"
        table.add_row(state.url, Text(said, style=style), *_engine(reading))
    for url, reading in readings.items():
        table.add_row(url, Text(reading.error or "metrics only", style="dim"), *_engine(reading))
    return table


def _engine(reading: EngineReading | None) -> list[str]:
    if reading is None:
        return [NOT_KNOWN] * 7
    if reading.error is not None:
        return [f"no metrics: {reading.error}"]
    gauges, counters = reading.gauges, reading.counters
    batch = reading.histograms.get("batch_size_decode")
    hits = counters.get("cache_hit_tokens", 0)
    prompts = hits + counters.get("cache_miss_tokens", 0)
    used = kv_used(reading)
    return [
        *(_count(gauges.get(name)) for name in ("running", "queued", "awaiting_admission")),
        NOT_KNOWN if batch is None or batch.mean is None else f"{batch.mean:.1f}",
        NOT_KNOWN if used is None else f"{used:.0%}",
        f"{hits / prompts:.0%}" if prompts else NOT_KNOWN,
        _count(counters.get("preemptions")),
    ]


def _count(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{value:,.0f}"
