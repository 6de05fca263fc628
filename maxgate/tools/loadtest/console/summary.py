"""The whole summary, after it."""

from rich.console import Console

from maxgate.tools.loadtest.console.judgements import print_changes, print_grades
from maxgate.tools.loadtest.console.level import SHOWN, facts, heading, table_of
from maxgate.tools.results.report import Report


def print_report(report: Report, console: Console) -> None:
    """The summary."""
    for level in report.levels:
        console.print(heading(level))
        console.print(table_of(level))
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
        console.print(f"Note: {warning}", style="yellow", highlight=False)


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
