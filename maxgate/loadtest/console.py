"""Terminal output: live progress and the summary of a report."""

from collections.abc import Iterable
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from maxgate.loadtest.messages import Progress
from maxgate.loadtest.session import Screen
from maxgate.results.distribution import Distribution
from maxgate.results.report import Change, Level, Report


def format_milliseconds(seconds: float | None) -> str:
    """Milliseconds without the unit; `-` if unknown."""
    if seconds is None:
        return "-"
    value = seconds * 1000
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def format_number(value: float | None) -> str:
    """Four significant digits; `-` if unknown."""
    return "-" if value is None else f"{value:.4g}"


_SHOWN_METRICS: Final = (
    "latency",
    "response_latency",
    "ttft",
    "response_ttft",
    "tpot",
    "chunk_gap",
    "normalized_latency",
    "ttfb",
    "late",
    "connect",
)
_SHOWN_PERCENTILES: Final = ("50", "90", "95", "99", "99.9")


def format_heading(level: Level) -> Text:
    """Scenario, load and side of the level."""
    side = " (baseline)" if level.side == "baseline" else ""
    return Text(f"\n{level.scenario}, {level.name}{side}", style="bold")


def build_metrics_table(level: Level) -> Table:
    """One row per metric, in milliseconds."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("milliseconds", no_wrap=True)
    titles = (
        "min",
        "mean",
        *(f"P{key}" for key in _SHOWN_PERCENTILES),
        "max",
        "std",
        "client ±",
        "P99.9 ±",
        "n",
    )
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for metric in _SHOWN_METRICS:
        values = level.metrics.get(metric)
        if values is not None and values.count:
            table.add_row(metric, *_cells(values))
    return table


def _cells(values: Distribution) -> Iterable[str]:
    error = values.client_error
    bounds = [
        "?" if error is None else format_milliseconds(error.at(key)) for key in ("99", "99.9")
    ]
    if values.below_client_error and error is not None:
        blank = [""] * (len(_SHOWN_PERCENTILES) + 3)
        return [f"< {format_milliseconds(error.mean)}", *blank, *bounds, str(values.count)]
    numbers = [
        values.min,
        values.mean,
        *(values.percentiles.get(key) for key in _SHOWN_PERCENTILES),
    ]
    numbers += [values.max, values.standard_deviation]
    return [*(format_milliseconds(number) for number in numbers), *bounds, str(values.count)]


def format_counts(level: Level) -> Text:
    """Requests, throughput, tokens and errors of the level."""
    requests, throughput = level.requests, level.throughput
    share = requests.succeeded / requests.attempted if requests.attempted else 0.0
    lines = [
        f"{requests.attempted} requests in {level.window_seconds:.1f} s, {share:.2%} succeeded"
        + (f", {requests.unfinished} unfinished" if requests.unfinished else ""),
        f"{throughput.requests:.1f} requests/s, {level.in_flight.mean:.2f} in flight on average "
        f"(max {level.in_flight.max})",
        _format_tokens(level),
    ]
    if requests.errors:
        kinds = ", ".join(f"{kind} {count}" for kind, count in requests.errors.items())
        lines.append(f"errors: {kinds}")
    if throughput.good_requests is not None:
        share = (requests.good or 0) / max(1, requests.attempted)
        lines.append(
            f"goodput {throughput.good_requests:.1f} requests/s, {share:.1%} of all requests"
        )
    if level.chunks is not None and level.chunks.tokens_per_chunk is not None:
        lines.append(
            f"{level.chunks.count} chunks, {level.chunks.tokens_per_chunk:.2f} tokens per chunk, "
            f"{level.chunks.shared_reads} arrived together with the previous chunk, "
            f"{level.chunks.stalls} stalls above {level.chunks.stall_seconds:g} s"
        )
    return Text("\n".join(lines))


def _format_tokens(level: Level) -> str:
    tokens, throughput = level.tokens, level.throughput
    known = tokens.input is not None and throughput.input_tokens is not None
    inputs = f"{tokens.input} in ({throughput.input_tokens:.1f}/s), " if known else ""
    outputs = f"{tokens.output} out ({throughput.output_tokens:.1f}/s)"
    return f"tokens: {inputs}{outputs}, counted by {tokens.counted_by}"


_CHANGE_COLUMNS: Final = (
    "level",
    "metric",
    "",
    "before",
    "after",
    "difference",
    "interval",
    "verdict",
)
_COLOURS: Final = {
    "pass": "green",
    "better": "green",
    "fail": "red",
    "worse": "red",
    "unclear": "yellow",
    "same": "",
}


def print_changes(title: str, changes: list[Change], console: Console) -> None:
    """Print a table, unless there are no changes."""
    if not changes:
        return
    table = Table(title=f"\n{title}", box=None, title_justify="left", title_style="bold")
    for column in _CHANGE_COLUMNS:
        table.add_column(column, justify="left")
    for change in changes:
        style = _COLOURS[change.verdict]
        table.add_row(*_change_cells(change), Text(change.verdict, style=style))
    console.print(table)


def _change_cells(change: Change) -> Iterable[str]:
    show = format_milliseconds if change.unit == "s" else format_number
    interval = change.reason
    if change.interval is not None:
        interval = f"{show(change.interval.low)} to {show(change.interval.high)}"
    numbers = (show(change.before), show(change.after), show(change.difference))
    return [change.level, change.metric, change.statistic, *numbers, interval]


def print_grades(report: Report, console: Console) -> None:
    """Print a table, unless there are no targets."""
    if not report.grades:
        return
    table = Table(title="\nTargets", box=None, title_justify="left", title_style="bold")
    for column in ("level", "target", "verdict", "reason"):
        table.add_column(column)
    for grade in report.grades:
        verdict = Text(grade.verdict, style=_COLOURS[grade.verdict])
        table.add_row(grade.level, grade.target, verdict, grade.reason)
    console.print(table)


def print_report(report: Report, console: Console) -> None:
    """Print the summary."""
    for level in report.levels:
        console.print(format_heading(level))
        console.print(build_metrics_table(level))
        console.print(format_counts(level))
    _print_definitions(report, console)
    print_changes("Target compared with baseline", report.paired, console)
    print_changes("Compared with the earlier report", report.comparison, console)
    if report.saturation is not None:
        found = "saturated" if report.saturation.found else "not saturated"
        console.print(f"\nSweep: {found}; {report.saturation.reason}", highlight=False)
    for drift in report.drift:
        trend = f"{drift.metric} {drift.verdict}, {drift.relative_per_hour or 0.0:+.1%} per hour"
        console.print(f"Drift, {drift.level}: {trend}")
    print_grades(report, console)
    for warning in report.warnings:
        console.print(f"Warning: {warning}", style="yellow", highlight=False)


def _print_definitions(report: Report, console: Console) -> None:
    used = {name for level in report.levels for name, d in level.metrics.items() if d.count}
    console.print("\nDefinitions", style="bold")
    for metric in _SHOWN_METRICS:
        if metric in used:
            definition = report.definitions[metric]
            text = f"{metric}: {definition.title.lower()}, {definition.text}"
            console.print(text, style="dim", highlight=False)
    text = (
        "client ±: the load generator's own timing error (99th percentile; 99.9th for P99.9). "
        "Values below it, or from too few requests, are blank"
    )
    console.print(text, style="dim", highlight=False)


class LiveScreen(Screen):
    """A live line on a terminal, one line per phase otherwise; nothing if quiet."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console, self._quiet = console, quiet
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._text = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @override
    def phase(self, text: str, seconds: float | None) -> None:
        self._text = text if seconds is None else f"{text} (up to {seconds:.6g} s)"
        if self._quiet:
            return
        if self._live.is_started:
            self._live.update(Text(self._text))
        else:
            self._console.print(self._text)

    @override
    def progress(self, progress: Progress) -> None:
        line = (
            f"{self._text}: {progress.started} sent, {progress.succeeded} succeeded, "
            f"{progress.failed} failed, {progress.in_flight} in flight, {progress.chunks} chunks"
        )
        if self._live.is_started:
            self._live.update(Text(line))
