"""Format results as Markdown tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.gateway.results import GOALS, Results

_OWN = "maxgate"
_REFERENCES = ("nginx", "vllm-router")
_FULL_CORE = 0.9
"""Below this CPU load, something other than the gateway limited the rate."""


@dataclass(frozen=True)
class Row:
    """A row of the table: one metric of one case."""

    case: str
    metric: str
    title: str


ROWS = [
    Row("chat", "rate", "chat, 32-token prompt, requests/s"),
    Row("chat-stream", "rate", "chat streamed unpaced, requests/s"),
    Row("prompt-1000", "rate", "1,000-token prompt, requests/s"),
    Row("prompt-8000", "rate", "8,000-token prompt, requests/s"),
    Row("history", "rate", "1,000 tokens, repeated history, requests/s"),
    Row("reject-body", "rate", "invalid body rejected, requests/s"),
    Row("reject-model", "rate", "unknown model rejected, requests/s"),
    Row("paced", "cpu_us", "256 streams paced at 10 ms, µs CPU/chunk"),
    Row("paced", "cancelled", "- cancelled within 1 s, share"),
    Row("latency-alone", "p50_us", "added latency, 1 connection, P50 µs"),
    Row("latency-alone", "p99_us", "added latency, 1 connection, P99 µs"),
    Row("latency-half", "rate", "half of saturation, requests/s"),
    Row("latency-half", "p50_us", "- added latency, P50 µs"),
    Row("latency-half", "p99_us", "- added latency, P99 µs"),
    Row("idle", "cpu_us", "2,000 mostly idle connections, µs CPU/request"),
    Row("idle", "p99_us", "- latency, P99 µs"),
    Row("idle", "kib", "- memory, KiB/connection"),
]


def format_results(results: Results, gateways: Sequence[str]) -> str:
    """Format one row per metric, with ratios of maxgate to nginx and vllm-router."""
    references = [name for name in _REFERENCES if name in gateways and _OWN in gateways]
    head = ["case", *gateways, *(f"{_OWN}/{name}" for name in references)]
    measured = {case for _, case in results.rounds}
    rows = []
    for row in ROWS:
        if row.case in measured:
            cells = [_format_cell(results, name, row) for name in gateways]
            ratios = [_format_ratio(results, row, name) for name in references]
            rows.append([row.title, *cells, *ratios])
    return format_markdown([head, *rows])


def _format_cell(results: Results, gateway: str, row: Row) -> str:
    value = results.median(gateway, row.case, row.metric)
    if value is None:
        return results.failures.get((gateway, row.case), "")
    busy = results.median(gateway, row.case, "busy")
    is_scaled = row.metric == "rate" and row.case != "latency-half"
    is_estimate = is_scaled and busy is not None and busy < _FULL_CORE
    return ("~" if is_estimate else "") + format_number(value)


def _format_ratio(results: Results, row: Row, other: str) -> str:
    ratio = results.ratio((_OWN, row.case, row.metric), (other, row.case, row.metric))
    return "" if ratio is None else f"{ratio:.2f}"


def format_number(value: float) -> str:
    """Format three significant digits, with thousands separators."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def format_goals(results: Results) -> str:
    """Format one row per goal."""
    rows = [["goal", "required", "desired", "measured", ""]]
    for goal in GOALS:
        ratio = results.ratio(goal.numerator, goal.denominator)
        sign = "≥" if goal.desired > goal.required else "≤"
        measured = "" if ratio is None else f"{ratio:.2f}"
        bounds = [f"{sign} {goal.required:g}", f"{sign} {goal.desired:g}"]
        rows.append([goal.title, *bounds, measured, goal.judge(ratio)])
    return format_markdown(rows)


def format_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Format a table with aligned columns: the first one to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_format_line(row, widths) for row in rows]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([lines[0], _format_line(rule, widths), *lines[1:]])


def _format_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return "| " + " | ".join(padded) + " |"
