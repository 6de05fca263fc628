"""The printed summary of a report."""

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from maxgate.loadtest.level_table import build_levels, format_failures, format_load
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
_COLUMNS: Final = (
    "mean",
    "P50",
    "from",
    "to",
    *(f"P{key}" for key in _SHOWN_PERCENTILES[1:]),
    "min",
    "max",
    "std",
    "client ±",
    "P99.9 ±",
    "n",
)
_MEDIUM_COLUMNS: Final = frozenset({"mean", "P50", "from", "to", "P95", "P99", "client ±"})
_NARROW_COLUMNS: Final = frozenset({"mean", "P50"})
_WIDE: Final = 132
"""Width of the table with all columns."""


def build_metrics_table(level: Level, width: int) -> Table:
    """One row per metric, in milliseconds; a narrow table has fewer columns."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("milliseconds", no_wrap=True)
    shown = _COLUMNS if width >= _WIDE else _MEDIUM_COLUMNS if width >= 78 else _NARROW_COLUMNS
    columns = [column for column in _COLUMNS if column in shown]
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for metric in _SHOWN_METRICS:
        values = level.metrics.get(metric)
        if values is not None and values.count:
            cells = dict(zip(_COLUMNS, _cells(values), strict=True))
            table.add_row(metric, *(cells[column] for column in columns))
    return table


def _cells(values: Distribution) -> Iterable[str]:
    error = values.client_error
    bounds = [
        "?" if error is None else format_milliseconds(error.at(key)) for key in ("99", "99.9")
    ]
    if values.below_client_error and error is not None:
        blank = [""] * (len(_SHOWN_PERCENTILES) + 4)
        return [f"< {format_milliseconds(error.mean)}", *blank, *bounds, str(values.count)]
    interval = values.intervals.get("50")
    numbers = [
        values.mean,
        values.percentiles.get("50"),
        None if interval is None else interval.low,
        None if interval is None else interval.high,
        *(values.percentiles.get(key) for key in _SHOWN_PERCENTILES[1:]),
        values.min,
        values.max,
        values.standard_deviation,
    ]
    return [*(format_milliseconds(number) for number in numbers), *bounds, str(values.count)]


def format_counts(level: Level) -> Text:
    """Requests, throughput, tokens and errors of the level."""
    requests, throughput = level.requests, level.throughput
    share = requests.succeeded / requests.attempted if requests.attempted else 0.0
    lines = [
        f"{requests.attempted} requests in {level.window_seconds:.1f} s, {share:.2%} succeeded"
        + (f", {requests.unfinished} unfinished" if requests.unfinished else "")
        + (f", in {requests.conversations} conversations" if requests.conversations else ""),
        f"{throughput.requests:.1f} requests/s, {level.in_flight.mean:.2f} in flight on average "
        f"(max {level.in_flight.max})",
        _format_tokens(level),
    ]
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


def print_report(report: Report, console: Console, *, details: bool = False) -> None:
    """Print the summary; `details` adds every metric of each level."""
    console.print(Text(f"\n{_describe_servers(report)}\n", style="bold"))
    console.print(build_levels(report.levels, console))
    _print_names(report, console)
    if details:
        _print_details(report, console)
    _print_lines("Failed requests", list(format_failures(report.levels)), console)
    print_changes("Target compared with baseline", report.paired, console)
    print_changes("Compared with the earlier report", report.comparison, console)
    if report.saturation is not None:
        found = "saturated" if report.saturation.found else "not saturated"
        console.print(f"\nSweep: {found}; {report.saturation.reason}", highlight=False)
    for drift in report.drift:
        trend = f"{drift.metric} {drift.verdict}, {drift.relative_per_hour or 0.0:+.1%} per hour"
        console.print(f"Drift, {drift.level}: {trend}")
    print_grades(report, console)
    _print_lines("Warnings", report.warnings, console)


def _describe_servers(report: Report) -> str:
    target, baseline = report.server, report.baseline
    text = f"{target.url}, model {target.model or 'not set'}"
    if baseline is not None:
        text += f"\ncompared with {baseline.url}, model {baseline.model or 'not set'}"
    return text


def _print_names(report: Report, console: Console) -> None:
    """Explain the columns of the table of levels, and where to find more."""
    scheduled = any("response_latency" in level.metrics for level in report.levels)
    start = "the scheduled departure" if scheduled else "sending"
    lines = [
        f"TTFT: time to first token, from {start} to the first output.",
        "ITL: inter-token latency, the mean time per token after the first of each request "
        "(TPOT in vLLM and max benchmark).",
        f"E2E: end-to-end latency, from {start} to the last output.",
        "Second line: measured time, number of requests, and half the width of each 95% "
        "confidence interval (sampling error); blank: the sample is too small.",
        "-: too few requests. <: below the error of the load generator.",
        "--details prints every metric of each level, with the error of the load generator.",
        *_describe_lengths(report.levels),
    ]
    for level in report.levels:
        if level.requests.conversations is not None:
            talks = f"{level.requests.attempted} requests in {level.requests.conversations}"
            lines.append(f"{level.scenario}, {format_load(level)}: {talks} conversations.")
    console.print(Text("\n" + "\n".join(lines), style="dim"))


def _describe_lengths(levels: Sequence[Level]) -> Iterable[str]:
    """The mean numbers of tokens per successful request of each scenario."""
    for scenario in dict.fromkeys(level.scenario for level in levels):
        chosen = [one for one in levels if one.scenario == scenario and one.requests.succeeded]
        requests = sum(one.requests.succeeded for one in chosen)
        if not requests:
            continue
        output = sum(one.tokens.output for one in chosen) / requests
        inputs = [one.tokens.input for one in chosen if one.tokens.input is not None]
        before = f"{sum(inputs) / requests:.1f} input and " if len(inputs) == len(chosen) else ""
        counted = (
            ""
            if all(one.tokens.counted_by == "usage" for one in chosen)
            else ("; the server does not report all of them, so chunks were counted")
        )
        yield f"{scenario}: {before}{output:.1f} output tokens per request on average{counted}."


def _print_details(report: Report, console: Console) -> None:
    for level in report.levels:
        console.print(Text(f"\n{level.scenario}, {format_load(level)}", style="bold"))
        console.print(build_metrics_table(level, console.width))
        console.print(format_counts(level))
    _print_definitions(report, console)


def _print_lines(title: str, lines: Sequence[str], console: Console) -> None:
    """Print a list, unless it is empty; a file or pipe gets whole lines."""
    if lines:
        console.print(Text(f"\n{title}", style="bold"))
    for line in lines:
        text = Text(f"- {line}", style="yellow")
        console.print(text, soft_wrap=not console.is_terminal)


def _print_definitions(report: Report, console: Console) -> None:
    used = {name for level in report.levels for name, d in level.metrics.items() if d.count}
    console.print("\nDefinitions", style="bold")
    for metric in _SHOWN_METRICS:
        if metric in used:
            definition = report.definitions[metric]
            text = f"{metric}: {definition.title.lower()}, {definition.text}"
            console.print(text, style="dim", highlight=False)
    text = (
        "from, to: 95% confidence interval of P50 (sampling error). client ±: the load generator's "
        "own timing error (99th percentile; 99.9th for P99.9). Values below it, or from too few "
        "requests, are blank"
    )
    console.print(text, style="dim", highlight=False)
