"""What people see: progress on standard error while it runs, tables on standard output after it."""

from collections.abc import Iterable
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from maxgate.tools.loadtest.job import Progress
from maxgate.tools.results.distribution import Distribution
from maxgate.tools.results.level import Level
from maxgate.tools.results.report import Report
from maxgate.tools.results.verdict import Change

_SHOWN = (
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
_KEYS = ("50", "90", "95", "99", "99.9")
_COLOURS = {
    "pass": "green",
    "better": "green",
    "fail": "red",
    "worse": "red",
    "unclear": "yellow",
    "same": "",
}


class LiveScreen:
    """A line that changes on a terminal, a line per phase elsewhere; nothing when quiet."""

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

    def phase(self, text: str, seconds: float | None) -> None:
        """See Screen."""
        self._text = text if seconds is None else f"{text} (up to {seconds:g} s)"
        if self._quiet:
            return
        if self._live.is_started:
            self._live.update(Text(self._text))
        else:
            self._console.print(self._text)

    def progress(self, progress: Progress) -> None:
        """See Screen."""
        line = (
            f"{self._text}: {progress.started} sent, {progress.succeeded} answered, "
            f"{progress.failed} failed, {progress.in_flight} in flight, {progress.chunks} chunks"
        )
        if self._live.is_started:
            self._live.update(Text(line))


def print_report(report: Report, console: Console) -> None:
    """The summary."""
    for level in report.levels:
        console.print(_heading(level))
        console.print(_table(level))
        console.print(_facts(level))
    _print_definitions(report, console)
    _print_changes("The target over the baseline", report.paired, console)
    _print_changes("Against the old report", report.comparison, console)
    if report.saturation is not None:
        found = "saturated" if report.saturation.found else "not saturated"
        console.print(f"Sweep: {found}; {report.saturation.reason}", highlight=False)
    for drift in report.drift:
        share = drift.relative_per_hour or 0.0
        console.print(f"Drift, {drift.level}: {drift.metric} {drift.verdict}, {share:+.1%} an hour")
    _print_grades(report, console)
    for warning in report.warnings:
        console.print(f"Note: {warning}", style="yellow", highlight=False)


def _heading(level: Level) -> Text:
    side = " (baseline)" if level.side == "baseline" else ""
    return Text(f"\n{level.scenario}, {level.name}{side}", style="bold")


def _table(level: Level) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("milliseconds", no_wrap=True)
    titles = ("min", "mean", *(f"P{key}" for key in _KEYS), "max", "std", "client ±", "n")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for metric in _SHOWN:
        values = level.metrics.get(metric)
        if values is not None and values.count:
            table.add_row(metric, *_cells(values))
    return table


def _cells(values: Distribution) -> Iterable[str]:
    error = values.client_error
    known = "?" if error is None else _ms(error.p99)
    if values.below_client_error and error is not None:
        blank = [""] * (len(_KEYS) + 3)
        return [f"< {_ms(error.mean)}", *blank, known, str(values.count)]
    numbers = [values.min, values.mean, *(values.percentiles.get(key) for key in _KEYS)]
    numbers += [values.max, values.standard_deviation]
    return [*(_ms(number) for number in numbers), known, str(values.count)]


def _facts(level: Level) -> Text:
    requests, throughput = level.requests, level.throughput
    share = requests.succeeded / requests.attempted if requests.attempted else 0.0
    lines = [
        f"{requests.attempted} requests in {level.window_seconds:.1f} s, {share:.2%} succeeded"
        + (f", {requests.unfinished} unfinished" if requests.unfinished else ""),
        f"{throughput.requests:.1f} requests/s, {throughput.output_tokens:.1f} output tokens/s "
        f"(by {level.tokens.counted_by}), in flight {level.in_flight.mean:.2f} on average, "
        f"{level.in_flight.max} at most",
    ]
    if requests.errors:
        kinds = ", ".join(f"{kind} {count}" for kind, count in requests.errors.items())
        lines.append(f"errors: {kinds}")
    if throughput.good_requests is not None:
        part = (requests.good or 0) / max(1, requests.attempted)
        lines.append(f"goodput {throughput.good_requests:.1f} requests/s, {part:.1%} of all")
    if level.chunks is not None and level.chunks.tokens_per_chunk is not None:
        lines.append(
            f"{level.chunks.tokens_per_chunk:.2f} tokens per chunk, {level.chunks.shared_reads} of "
            f"{level.chunks.count} chunks shared a read, {level.chunks.stalls} stalls over "
            f"{level.chunks.stall_seconds:g} s"
        )
    return Text("\n".join(lines))


def _print_definitions(report: Report, console: Console) -> None:
    used = {name for level in report.levels for name, d in level.metrics.items() if d.count}
    console.print("\nWhat the numbers mean", style="bold")
    for metric in _SHOWN:
        if metric in used:
            definition = report.definitions[metric]
            text = f"{metric}: {definition.title.lower()}, {definition.text}"
            console.print(text, style="dim", highlight=False)
    text = "client ±: 99 % of the client's own errors are smaller (measured against a script)"
    console.print(text, style="dim", highlight=False)


def _print_changes(title: str, changes: list[Change], console: Console) -> None:
    if not changes:
        return
    table = Table(title=title, box=None, title_justify="left", title_style="bold")
    for column in ("level", "metric", "", "before", "after", "difference", "interval", "verdict"):
        table.add_column(column, justify="left")
    for change in changes:
        style = _COLOURS[change.verdict]
        table.add_row(*_change_cells(change), Text(change.verdict, style=style))
    console.print(table)


def _change_cells(change: Change) -> Iterable[str]:
    show = _ms if change.unit == "s" else _plain
    interval = change.reason
    if change.interval is not None:
        interval = f"{show(change.interval.low)} to {show(change.interval.high)}"
    numbers = (show(change.before), show(change.after), show(change.difference))
    return [change.level, change.metric, change.statistic, *numbers, interval]


def _print_grades(report: Report, console: Console) -> None:
    if not report.grades:
        return
    table = Table(title="Targets", box=None, title_justify="left", title_style="bold")
    for column in ("level", "target", "verdict", "why"):
        table.add_column(column)
    for grade in report.grades:
        verdict = Text(grade.verdict, style=_COLOURS[grade.verdict])
        table.add_row(grade.level, grade.target, verdict, grade.reason)
    console.print(table)


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    value = seconds * 1000
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
