"""Command line of visualize_results.py."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, NoReturn

import typer
from rich.console import Console

from maxgate.cli.run import run
from maxgate.errors import ConfigurationError
from maxgate.report.grades import add_design_grades
from maxgate.report.runs import Run, read_runs
from maxgate.report.terminal import print_runs
from maxgate.results.output import check_distinct, check_no_folder, open_output

_REDIRECTED_WIDTH: Final = 160  # columns when stdout is a file or a pipe


def main(arguments: Sequence[str] | None = None, name: str = "visualize_results.py") -> NoReturn:
    """Run the command with these arguments (default: `sys.argv`) and exit."""
    run(visualize_results, name, arguments)


def visualize_results(
    context: typer.Context,
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Reports of load_test.py or folders of them; the oldest is the reference."
        ),
    ] = None,
    *,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", "-l", help="Name of a run in charts and tables; repeat it per report."
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the charts as a PNG image.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write tables and advice as Markdown, for a pull request.")
    ] = None,
    targets: Annotated[
        Literal["design"] | None,
        typer.Option(help="Grade reports without grades against the design's targets."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print no results to the terminal.")
    ] = False,
) -> int:
    """Show charts, grades and advice from load test reports.

    Without arguments, show the newest report in results/.

    Exit code: 1 if a file could not be read (the others are still shown), 2 if none could.
    """
    paths = [*_list_reports(results or ())] or [_find_newest(Path("results"))]
    outputs = [path for path in (html, png, markdown) if path is not None]
    for path in outputs:
        check_no_folder(path)
    check_distinct(outputs, paths)
    runs, unread = read_runs(paths, label or ())
    for line in unread:
        print(f"{context.command_path}: {line}", file=sys.stderr)
    if not runs:
        return 2
    if targets == "design":
        runs = [*map(add_design_grades, runs)]
    if not quiet:
        print_runs(_open_console(), runs)
    _write_files(runs, unread, html, png, markdown)
    return 1 if unread else 0


def _open_console() -> Console:
    """A console as wide as the terminal, or as $COLUMNS says if the output is redirected."""
    is_sized = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(width=None if is_sized else _REDIRECTED_WIDTH, highlight=False)


def _list_reports(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files, and all reports in the folders."""
    for path in paths:
        if not path.is_dir():
            yield path
        elif found := sorted(path.glob("*.json")):
            yield from found
        else:
            raise ConfigurationError(f"no reports in {path}: it has no .json file")


def _find_newest(folder: Path) -> Path:
    found = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ConfigurationError("no reports in results/: pass the path of a load_test.py report")
    return found[-1]


def _write_files(
    runs: Sequence[Run],
    unread: Sequence[str],
    html: Path | None,
    png: Path | None,
    markdown: Path | None,
) -> None:
    # Imported on demand: altair and Vega take longer to import than everything else together.
    if html is not None:
        from maxgate.report.html import render_html  # noqa: PLC0415

        _write(html, lambda: render_html(runs, unread).encode())
    if png is not None:
        from maxgate.report.charts import render_png  # noqa: PLC0415

        _write(png, lambda: render_png(runs))
    if markdown is not None:
        from maxgate.report.markdown import render_markdown  # noqa: PLC0415

        _write(markdown, lambda: render_markdown(runs, unread).encode())


def _write(path: Path, render: Callable[[], bytes]) -> None:
    content = render()
    with open_output(path) as file:
        file.write(content)
