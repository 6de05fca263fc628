"""The numbers of one level."""

from collections.abc import Iterable
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from maxgate.loadtest.messages import Progress
from maxgate.results.distribution import Distribution
from maxgate.results.report import Change, Level, Report


def milliseconds(seconds: float | None) -> str:
    """Without the unit, which stands in the table's head; `-` where it is not known."""
    if seconds is None:
        return "-"
    value = seconds * 1000
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def plain(value: float | None) -> str:
    """Four digits; `-` where it is not known."""
    return "-" if value is None else f"{value:.4g}"


SHOWN = (
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


def heading(level: Level) -> Text:
    """Its name."""
    side = " (baseline)" if level.side == "baseline" else ""
    return Text(f"\n{level.scenario}, {level.name}{side}", style="bold")


def build_metrics_table(level: Level) -> Table:
    """A row per metric, in milliseconds."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("milliseconds", no_wrap=True)
    titles = (
        "min",
        "mean",
        *(f"P{key}" for key in _KEYS),
        "max",
        "std",
        "client ±",
        "P99.9 ±",
        "n",
    )
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for metric in SHOWN:
        values = level.metrics.get(metric)
        if values is not None and values.count:
            table.add_row(metric, *_cells(values))
    return table


def _cells(values: Distribution) -> Iterable[str]:
    error = values.client_error
    error_bounds = ["?" if error is None else milliseconds(error.at(key)) for key in ("99", "99.9")]
    if values.below_client_error and error is not None:
        blank = [""] * (len(_KEYS) + 3)
        return [f"< {milliseconds(error.mean)}", *blank, *error_bounds, str(values.count)]
    numbers = [values.min, values.mean, *(values.percentiles.get(key) for key in _KEYS)]
    numbers += [values.max, values.standard_deviation]
    return [*(milliseconds(number) for number in numbers), *error_bounds, str(values.count)]


def facts(level: Level) -> Text:
    """Counts and rates."""
    requests, throughput = level.requests, level.throughput
    share = requests.succeeded / requests.attempted if requests.attempted else 0.0
    lines = [
        f"{requests.attempted} requests in {level.window_seconds:.1f} s, {share:.2%} succeeded"
        + (f", {requests.unfinished} unfinished" if requests.unfinished else ""),
        f"{throughput.requests:.1f} requests/s, in flight {level.in_flight.mean:.2f} on average, "
        f"{level.in_flight.max} at most",
        _tokens(level),
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


def _tokens(level: Level) -> str:
    tokens, throughput = level.tokens, level.throughput
    known = tokens.input is not None and throughput.input_tokens is not None
    taken = f"{tokens.input} in ({throughput.input_tokens:.1f}/s), " if known else ""
    out = f"{tokens.output} out ({throughput.output_tokens:.1f}/s)"
    return f"tokens: {taken}{out}, counted by {tokens.counted_by}"


_COLOURS = {
    "pass": "green",
    "better": "green",
    "fail": "red",
    "worse": "red",
    "unclear": "yellow",
    "same": "",
}


def print_changes(title: str, changes: list[Change], console: Console) -> None:
    """A table, where there are any."""
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
    show = milliseconds if change.unit == "s" else plain
    interval = change.reason
    if change.interval is not None:
        interval = f"{show(change.interval.low)} to {show(change.interval.high)}"
    numbers = (show(change.before), show(change.after), show(change.difference))
    return [change.level, change.metric, change.statistic, *numbers, interval]


def print_grades(report: Report, console: Console) -> None:
    """A table, where there were targets."""
    if not report.grades:
        return
    table = Table(title="Targets", box=None, title_justify="left", title_style="bold")
    for column in ("level", "target", "verdict", "why"):
        table.add_column(column)
    for grade in report.grades:
        verdict = Text(grade.verdict, style=_COLOURS[grade.verdict])
        table.add_row(grade.level, grade.target, verdict, grade.reason)
    console.print(table)


def print_report(report: Report, console: Console) -> None:
    """The summary."""
    for level in report.levels:
        console.print(heading(level))
        console.print(build_metrics_table(level))
        console.print(facts(level))
    _print_definitions(report, console)
    print_changes("The target over the baseline", report.paired, console)
    print_changes("Against the old report", report.comparison, console)
    if report.saturation is not None:
        found = "saturated" if report.saturation.found else "not saturated"
        console.print(f"Sweep: {found}; {report.saturation.reason}", highlight=False)
    for drift in report.drift:
        share = drift.relative_per_hour or 0.0
        console.print(f"Drift, {drift.level}: {drift.metric} {drift.verdict}, {share:+.1%} an hour")
    print_grades(report, console)
    for warning in report.warnings:
        console.print(f"ServerTimestamps: {warning}", style="yellow", highlight=False)


def _print_definitions(report: Report, console: Console) -> None:
    used = {name for level in report.levels for name, d in level.metrics.items() if d.count}
    console.print("\nWhat the numbers mean", style="bold")
    for metric in SHOWN:
        if metric in used:
            definition = report.definitions[metric]
            text = f"{metric}: {definition.title.lower()}, {definition.text}"
            console.print(text, style="dim", highlight=False)
    text = (
        "client ±: the load generator's own timing error (99th percentile; 99.9th for P99.9). "
        "Values below it, or from too few requests, are blank"
    )
    console.print(text, style="dim", highlight=False)


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
