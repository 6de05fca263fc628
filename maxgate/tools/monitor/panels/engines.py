"""The engines, as the gateway sees them and as they see themselves."""

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from maxgate.tools.monitor.numbers import kv_used
from maxgate.tools.monitor.panels.cells import NOT_KNOWN, new_table
from maxgate.tools.monitor.snapshot import EngineReading
from maxgate.tools.monitor.sources import metrics_url
from maxgate.tools.monitor.watch import View

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
