"""The table of levels: one row per level, with the sampling error of each value."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from maxgate.results.distribution import Distribution, Interval
from maxgate.results.report import Level
from maxgate.results.statistics import min_sample_size

_MIN_TABLE_WIDTH: Final = 78
"""Columns of the table; a narrower terminal gets a list."""

_WIDE: Final = 110
"""Columns of the table with every percentile."""


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


def _build_share(level: Level) -> Cell:
    requests = level.requests
    share = f"{requests.succeeded / requests.attempted:.1%}" if requests.attempted else "-"
    return Cell(share.replace(".0%", "%"), count=f"{requests.attempted}")


def _build_rate(value: float, interval: Interval | None) -> Cell:
    return Cell(_format(value), _format_error(value, interval, 1))


def _build_time(values: Distribution | None, percentile: str) -> Cell:
    if values is None or not values.count:
        return Cell("-")
    if values.below_client_error and values.client_error is not None:
        return Cell(f"<{_format(values.client_error.mean * 1000)}")
    value = values.percentiles.get(percentile)
    if value is None:
        return Cell(_explain_missing(values, percentile))
    interval = values.intervals.get(percentile)
    return Cell(_format(value * 1000), _format_error(value, interval, 1000))


def _explain_missing(values: Distribution, percentile: str) -> str:
    """`-` for a small sample, and the error bar for a percentile that is below it."""
    if values.client_error is None or values.count < min_sample_size(float(percentile)):
        return "-"
    return f"<{_format(values.client_error.at(percentile) * 1000)}"


_Build = Callable[[Level], Cell]


def _of_metric(name: str, percentile: str) -> _Build:
    return lambda level: _build_time(level.find_metric(name), percentile)


_COLUMNS: Final[Mapping[str, _Build]] = {
    "ok": _build_share,
    "requests/s": lambda level: _build_rate(
        level.throughput.requests, level.throughput.requests_interval
    ),
    "output\ntokens/s": lambda level: _build_rate(
        level.throughput.output_tokens, level.throughput.output_tokens_interval
    ),
    "TTFT\nP50 ms": _of_metric("ttft", "50"),
    "TTFT\nP95 ms": _of_metric("ttft", "95"),
    "TTFT\nP99 ms": _of_metric("ttft", "99"),
    "ITL\nP50 ms": _of_metric("tpot", "50"),
    "ITL\nP95 ms": _of_metric("tpot", "95"),
    "E2E\nP50 ms": _of_metric("latency", "50"),
    "E2E\nP95 ms": _of_metric("latency", "95"),
    "E2E\nP99 ms": _of_metric("latency", "99"),
}
_ONLY_WIDE: Final = frozenset({"TTFT\nP99 ms", "ITL\nP95 ms", "E2E\nP99 ms"})


def build_cells(level: Level, *, wide: bool = False) -> dict[str, Cell]:
    """The cells of one level by the titles of their columns; a wide table has more."""
    return {
        title: build(level) for title, build in _COLUMNS.items() if wide or title not in _ONLY_WIDE
    }


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
    wide = console.width >= _WIDE
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("load", no_wrap=False, overflow="fold")
    for title in _COLUMNS:
        if wide or title not in _ONLY_WIDE:
            table.add_column(title, justify="right", no_wrap=True)
    names = _name_scenarios(levels)
    scenario = ""
    for level in levels:
        if level.scenario != scenario:
            scenario = level.scenario
            table.add_row(Text(names[scenario], style="bold"))
        cells = build_cells(level, wide=wide)
        style = "red" if level.requests.failed else ""
        share, *others = (cell.value for cell in cells.values())
        table.add_row(format_load(level), Text(share, style=style), *others)
        more = [_format_duration(level), *(one.format_second_line(sign) for one in cells.values())]
        table.add_row(*(Text(text, style="dim") for text in more))
    return table


def _name_scenarios(levels: Sequence[Level]) -> dict[str, str]:
    """The scenarios' names for the narrow first column: files without folders, if they differ."""
    scenarios = {level.scenario for level in levels}
    names = {scenario: Path(scenario).name or scenario for scenario in scenarios}
    return names if len(set(names.values())) == len(names) else {name: name for name in scenarios}


def _format_duration(level: Level) -> str:
    return f"{_format(level.window_seconds)} s"


def _build_list(levels: Sequence[Level], sign: str) -> Iterator[Text]:
    for level in levels:
        title = f"{level.scenario}, {format_load(level)}, {_format_duration(level)}"
        yield Text(title, style="bold")
        for column, cell in build_cells(level).items():
            more = f"of {cell.count}" if cell.count else cell.format_second_line(sign)
            yield Text(f"  {column.replace(chr(10), ' '):16} {cell.value} {more}".rstrip())


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
