"""Latency and traffic, with their trends."""

from typing import Final

from rich.table import Table
from rich.text import Text

from maxgate.tools.monitor.panels.cells import new_table, value_of
from maxgate.tools.monitor.sparkline import sparkline
from maxgate.tools.monitor.watch import View

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
