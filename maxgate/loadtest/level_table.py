"""The table of levels: one row per level, with the sampling error of each value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from maxgate.results.distribution import Distribution, Interval
from maxgate.results.report import Level

_MIN_TABLE_WIDTH: Final = 78
"""Columns of the table; a narrower terminal gets a list."""

_TITLES: Final = (
    "ok",
    "requests/s",
    "output\ntokens/s",
    "TTFT\nP50 ms",
    "TTFT\nP95 ms",
    "ITL\nP50 ms",
    "E2E\nP50 ms",
    "E2E\nP95 ms",
)


@dataclass(frozen=True)
class Cell:
    """A value, and half the width of its confidence interval; empty if unknown."""

    value: str
    error: str = ""
    count: str = ""
    """Number of requests that the value is a share of."""

    def format_second_line(self, sign: str) -> str:
        """The count, or the interval behind `sign`."""
        return self.count or (sign + self.error if self.error else "")


def build_cells(level: Level) -> list[Cell]:
    """The cells of one level, in the order of the titles."""
    throughput, requests = level.throughput, level.requests
    ttft, end_to_end = level.find_metric("ttft"), level.find_metric("latency")
    share = f"{requests.succeeded / requests.attempted:.1%}" if requests.attempted else "-"
    return [
        Cell(share.replace(".0%", "%"), count=f"{requests.attempted}"),
        _build_rate(throughput.requests, throughput.requests_interval),
        _build_rate(throughput.output_tokens, throughput.output_tokens_interval),
        _build_time(ttft, "50"),
        _build_time(ttft, "95"),
        _build_time(level.metrics.get("tpot"), "50"),
        _build_time(end_to_end, "50"),
        _build_time(end_to_end, "95"),
    ]


def _build_rate(value: float, interval: Interval | None) -> Cell:
    return Cell(_format(value), _format_error(value, interval, 1))


def _build_time(values: Distribution | None, percentile: str) -> Cell:
    if values is None or not values.count:
        return Cell("-")
    if values.below_client_error and values.client_error is not None:
        return Cell(f"<{_format(values.client_error.mean * 1000)}")
    value = values.percentiles.get(percentile)
    if value is None:
        return Cell("-")
    interval = values.intervals.get(percentile)
    return Cell(_format(value * 1000), _format_error(value, interval, 1000))


def _format(value: float) -> str:
    """At least three significant digits, as few characters as possible."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _format_error(value: float, interval: Interval | None, scale: float) -> str:
    if interval is None:
        return ""
    return _format(max(interval.high - value, value - interval.low) * scale)


def build_levels(levels: Sequence[Level], console: Console) -> RenderableType:
    """A table, or a list on a narrow terminal."""
    sign = "±" if console.encoding.startswith("utf") else "+/-"
    if console.width < _MIN_TABLE_WIDTH:
        return Group(*_build_list(levels, sign))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("load", no_wrap=False, overflow="fold")
    for title in _TITLES:
        table.add_column(title, justify="right", no_wrap=True)
    scenario = ""
    for level in levels:
        if level.scenario != scenario:
            scenario = level.scenario
            table.add_row(Text(scenario, style="bold", no_wrap=True, overflow="ellipsis"))
        cells = build_cells(level)
        style = "red" if level.requests.failed else ""
        share, *others = (cell.value for cell in cells)
        table.add_row(format_load(level), Text(share, style=style), *others)
        table.add_row("", *(Text(cell.format_second_line(sign), style="dim") for cell in cells))
    return table


def _build_list(levels: Sequence[Level], sign: str) -> Iterator[Text]:
    for level in levels:
        yield Text(f"{level.scenario}, {format_load(level)}", style="bold")
        for title, cell in zip(_TITLES, build_cells(level), strict=True):
            more = f"of {cell.count}" if cell.count else cell.format_second_line(sign)
            yield Text(f"  {title.replace(chr(10), ' '):16} {cell.value} {more}".rstrip())


def format_load(level: Level) -> str:
    """The load of the level, and the baseline's mark."""
    return f"{level.name} (baseline)" if level.side == "baseline" else level.name


def format_failures(levels: Sequence[Level]) -> Iterator[str]:
    """One line per level and kind of failure, with the reason that the server gave."""
    for level in levels:
        for kind, count in level.requests.errors.items():
            message = level.requests.error_messages.get(kind)
            reason = f": {message}" if message else ""
            yield f"{level.scenario}, {format_load(level)}: {count} x {kind}{reason}"
