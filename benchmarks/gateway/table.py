"""Results as Markdown, for a terminal and for RESULTS.md alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.gateway.results import AIMS, Results

OWN = "maxgate"
_COMPARED_TO = ("nginx", "vllm-router")
# Less than this and the load source was what limited the rate.
_FULL = 0.9


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    case: str
    metric: str
    title: str


ROWS = [
    Row("chat", "rate", "chat, 32-token prompt, requests/s"),
    Row("chat-stream", "rate", "chat streamed unpaced, requests/s"),
    Row("prompt-1000", "rate", "1,000-token prompt, requests/s"),
    Row("prompt-8000", "rate", "8,000-token prompt, requests/s"),
    Row("history", "rate", "1,000 tokens, history repeats, requests/s"),
    Row("reject-body", "rate", "bad body refused, requests/s"),
    Row("reject-model", "rate", "unknown model refused, requests/s"),
    Row("paced", "cpu_us", "256 streams paced at 10 ms, µs CPU/chunk"),
    Row("paced", "cancelled", "of them cancelled within 1 s, share"),
    Row("latency-alone", "p50_us", "added latency, 1 connection, P50 µs"),
    Row("latency-alone", "p99_us", "added latency, 1 connection, P99 µs"),
    Row("latency-half", "rate", "half of saturation, requests/s"),
    Row("latency-half", "p50_us", "added latency there, P50 µs"),
    Row("latency-half", "p99_us", "added latency there, P99 µs"),
    Row("idle", "cpu_us", "2,000 connections mostly idle, µs CPU/request"),
    Row("idle", "p99_us", "latency there, P99 µs"),
    Row("idle", "kib", "memory there, KiB/connection"),
]


def results_table(results: Results, gateways: Sequence[str]) -> str:
    """A row per number; what maxgate has is set against two others."""
    compared = [name for name in _COMPARED_TO if name in gateways and OWN in gateways]
    head = ["case", *gateways, *(f"{OWN}/{name}" for name in compared)]
    measured = {case for _, case in results.rounds}
    rows = []
    for row in ROWS:
        if row.case in measured:
            cells = [_cell(results, name, row) for name in gateways]
            rows.append([row.title, *cells, *(_ratio(results, row, name) for name in compared)])
    return markdown([head, *rows])


def _cell(results: Results, gateway: str, row: Row) -> str:
    value = results.median(gateway, row.case, row.metric)
    if value is None:
        return results.failures.get((gateway, row.case), "")
    busy = results.median(gateway, row.case, "busy")
    scaled = row.metric == "rate" and row.case != "latency-half"
    return ("~" if scaled and busy is not None and busy < _FULL else "") + number(value)


def _ratio(results: Results, row: Row, other: str) -> str:
    ratio = results.ratio((OWN, row.case, row.metric), (other, row.case, row.metric))
    return "" if ratio is None else f"{ratio:.2f}"


def number(value: float) -> str:
    """Three digits that matter, thousands set apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def aims_table(results: Results) -> str:
    """What issue 4 asks for, and where that stands."""
    rows = [["aim", "at the least", "aimed at", "measured", ""]]
    for aim in AIMS:
        ratio = results.ratio(aim.above, aim.below)
        word = "≥" if aim.aimed > aim.needed else "≤"
        measured = "" if ratio is None else f"{ratio:.2f}"
        rows.append(
            [aim.title, f"{word} {aim.needed:g}", f"{word} {aim.aimed:g}", measured,
             aim.verdict(ratio)]
        )  # fmt: skip
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, the first one to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([lines[0], _line(rule, widths), *lines[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return "| " + " | ".join(padded) + " |"
