"""The command `visualize_results.py`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from maxgate.cli.run import run
from maxgate.errors import ConfigurationError
from maxgate.report.runs import Run, read_runs
from maxgate.report.terminal import show_on

_PLAIN_WIDTH = 160  # into a file or a pipe


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run it, with this process's arguments if none are given, and exit."""
    run(visualize_results, "visualize_results.py", arguments)


def visualize_results(
    results: Annotated[
        list[Path] | None,
        typer.Argument(help="Reports of load_test.py; others are compared with the oldest."),
    ] = None,
    *,
    html: Annotated[Path | None, typer.Option(help="Write one page that works offline.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the charts as a picture.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write tables and advice for a pull request.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on the terminal.")] = False,
) -> int:
    """Charts, grades and advice from reports; without any, from the newest in results/.

    Exit code 1 if a file could not be read, with the others still shown, and 2 if none could.
    """
    paths = list(results or ()) or _newest(Path("results"))
    runs, unread = read_runs(paths)
    for line in unread:
        print(f"visualize_results.py: {line}", file=sys.stderr)
    if not runs:
        return 2
    if not quiet:
        is_terminal = sys.stdout.isatty()
        show_on(Console(width=None if is_terminal else _PLAIN_WIDTH), runs)
    _write_files(runs, unread, html, png, markdown)
    return 1 if unread else 0


def _newest(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ConfigurationError("give reports of load_test.py; there are none in results/")
    return found[-1:]


def _write_files(
    runs: Sequence[Run],
    unread: Sequence[str],
    html: Path | None,
    png: Path | None,
    markdown: Path | None,
) -> None:
    # Imported where they are wanted: altair and Vega take longer than everything else together.
    if html is not None:
        from maxgate.report.html import page  # noqa: PLC0415

        _write(html, lambda: page(runs, unread).encode())
    if png is not None:
        from maxgate.report.charts import picture  # noqa: PLC0415

        _write(png, lambda: picture(runs))
    if markdown is not None:
        from maxgate.report.markdown import markdown as written  # noqa: PLC0415

        _write(markdown, lambda: written(runs, unread).encode())


def _write(path: Path, content: Callable[[], bytes]) -> None:
    made = content()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
