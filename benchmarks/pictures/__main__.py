"""Make the pictures of docs/images from the current output of the tools.

    python -m benchmarks.pictures [NAME...] [--out docs/images] [--reports .bench/pictures]

Needs Chromium (`apt-get install chromium`) and the extra `local`. Load tests of a simulated engine
take 15 minutes; their reports stay in the folder `--reports`, and are used again. NAME selects
pictures by the start of their names, as in `monitor`.
"""

import argparse
import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.pictures.readings import URL, simulate
from benchmarks.pictures.render import Theme, draw_terminal, save_image, save_page, save_svg
from benchmarks.pictures.reports import (
    FIFTEEN_LEVELS,
    FIVE_LEVELS,
    ONE_LEVEL,
    THREE_RUNS,
    TWELVE_RUNS,
    Load,
    measure,
)
from benchmarks.stack import ROOT
from maxgate.loadtest.console import print_report
from maxgate.monitor.alerts import DESIGN_RULES
from maxgate.monitor.dashboard import Dashboard
from maxgate.monitor.snapshot import Snapshot
from maxgate.monitor.view import Monitor
from maxgate.report.charts import render_png
from maxgate.report.html import render_html
from maxgate.report.runs import Run, read_runs
from maxgate.report.terminal import print_runs

_REPORT_PAGE: Final = (1280, 2000)
_WIDE, _NARROW = 160, 80


def _read(loads: Sequence[Load], reports: Path) -> list[Run]:
    runs, unread = read_runs(
        [measure(load, reports) for load in loads], [load.label for load in loads]
    )
    assert not unread, unread
    return runs


def save_summary(load: Load, width: int, reports: Path, path: Path, *, colors: bool = True) -> None:
    """The summary of the load test in a terminal."""

    def show(console: Console) -> None:
        print_report(_read([load], reports)[0].report, console)

    title = _name_terminal("maxgate load-test", width, colors=colors)
    save_svg(draw_terminal(show, width, title, colors=colors), path)


def save_report(load: Load, width: int, reports: Path, path: Path, *, colors: bool = True) -> None:
    """The report in a terminal."""

    def show(console: Console) -> None:
        print_runs(console, _read([load], reports))

    title = _name_terminal("maxgate report", width, colors=colors)
    save_svg(draw_terminal(show, width, title, colors=colors), path)


def _name_terminal(command: str, width: int, *, colors: bool) -> str:
    return f"{command}, {width} columns{'' if colors else ', NO_COLOR'}"


def save_charts(loads: Sequence[Load], reports: Path, path: Path) -> None:
    """The charts of `--png`."""
    save_image(render_png(_read(loads, reports)), path)


def save_html(loads: Sequence[Load], theme: Theme, reports: Path, path: Path) -> None:
    """The upper part of the page of `--html`."""
    save_page(render_html(_read(loads, reports), []), path, _REPORT_PAGE, theme)


def save_dashboard(
    engines: int,
    size: tuple[int, int],
    _: Path,
    path: Path,
    *,
    strained: bool = False,
    colors: bool = True,
) -> None:
    """The dashboard of the monitor, at the end of ten simulated minutes."""
    if not colors:
        os.environ["NO_COLOR"] = "1"  # Textual takes it out again
    save_svg(asyncio.run(_draw_dashboard(engines, size, strained=strained)), path)


async def _draw_dashboard(engines: int, size: tuple[int, int], *, strained: bool) -> str:
    drawn = asyncio.Event()

    async def feed() -> AsyncGenerator[Snapshot]:
        for snapshot in simulate(engines, strained=strained):
            yield snapshot
        drawn.set()
        await asyncio.Event().wait()  # a feed that ends would be shown as a recording's end

    dashboard = Dashboard(feed(), Monitor(URL, DESIGN_RULES, 60))
    async with dashboard.run_test(size=size) as pilot:
        await drawn.wait()
        await pilot.pause()
        return dashboard.export_screenshot(title=f"maxgate monitor, {size[0]} columns")


Picture = Callable[[Path, Path], None]
"""Makes a picture, from the folder of reports and the path of the image."""

PICTURES: Final[Mapping[str, Picture]] = {
    "load-test": partial(save_summary, FIFTEEN_LEVELS, _WIDE),
    "load-test-80": partial(save_summary, FIVE_LEVELS, _NARROW),
    "load-test-no-color": partial(save_summary, ONE_LEVEL, _NARROW, colors=False),
    "report": partial(save_html, THREE_RUNS, "light"),
    "report-dark": partial(save_html, THREE_RUNS, "dark"),
    "report-1": partial(save_html, [ONE_LEVEL], "light"),
    "report-15": partial(save_html, [FIFTEEN_LEVELS], "dark"),
    "report-terminal": partial(save_report, FIVE_LEVELS, _WIDE),
    "report-terminal-80": partial(save_report, FIFTEEN_LEVELS, _NARROW),
    "report-terminal-no-color": partial(save_report, ONE_LEVEL, _NARROW, colors=False),
    "report-charts": partial(save_charts, [FIVE_LEVELS]),
    "report-charts-1": partial(save_charts, [ONE_LEVEL]),
    "report-charts-15": partial(save_charts, [FIFTEEN_LEVELS]),
    "report-charts-12-runs": partial(save_charts, TWELVE_RUNS),
    "monitor": partial(save_dashboard, 5, (140, 38)),
    "monitor-1": partial(save_dashboard, 1, (140, 34)),
    "monitor-80": partial(save_dashboard, 5, (80, 46)),
    "monitor-no-color": partial(save_dashboard, 15, (140, 52), strained=True, colors=False),
    "monitor-alerts": partial(save_dashboard, 15, (160, 52), strained=True),
}


def main() -> None:
    """Make the chosen pictures, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="start of a picture's name")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--reports", type=Path, default=ROOT / ".bench" / "pictures")
    options = parser.parse_args()
    for name, save in PICTURES.items():
        if not options.names or name.startswith(tuple(options.names)):
            save(options.reports, options.out / f"{name}.png")
            print(f"{name}.png", flush=True)


if __name__ == "__main__":
    main()
