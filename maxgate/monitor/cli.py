"""Command line of `monitor.py`."""

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn

import orjson
import typer
from typer.core import TyperCommand
from typing_extensions import override

from maxgate.cli.encoding import is_unicode
from maxgate.cli.run import run
from maxgate.errors import ConfigurationError
from maxgate.monitor.alerts import DESIGN_RULES, load_rules
from maxgate.monitor.catalogue import METRICS
from maxgate.monitor.feed import FeedOptions, open_feed, parse_gateway_url, validate_url
from maxgate.monitor.recording import Recording
from maxgate.monitor.text_output import LineFormatter, build_json, format_page
from maxgate.monitor.view import Monitor
from maxgate.net.server_url import join_host_and_port

_SAMPLES_FOR_RATES: Final = 2


class _Command(TyperCommand):
    """Takes --host and --port too."""

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, join_host_and_port(args))


def main(arguments: Sequence[str] | None = None, name: str = "monitor.py") -> NoReturn:
    """Run the command with `sys.argv` or the given arguments, and exit."""
    run(monitor, name, arguments, cls=_Command)


def monitor(
    server: Annotated[
        str | None, typer.Argument(metavar="URL", help="URL of the gateway, as --url.")
    ] = None,
    *,
    url: Annotated[str, typer.Option(help="URL of the gateway.")] = "http://localhost:8000",
    interval: Annotated[float, typer.Option(help="Seconds between samples.", min=0.1)] = 1.0,
    window: Annotated[
        float, typer.Option(help="Seconds that percentiles and rates cover.", min=1)
    ] = 60.0,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="API key, sent to the gateway as a bearer token.", envvar="MAXGATE_API_KEY"
        ),
    ] = None,
    metrics_url: Annotated[
        list[str] | None,
        typer.Option(
            help="URL of an engine's MAX metrics; repeatable.",
            show_default="the port after each engine's",
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="YAML file with alert rules.", show_default="no alerts"),
    ] = None,
    targets: Annotated[
        Literal["design"] | None,
        typer.Option(help="Alert on the design's targets, on failures and on full resources."),
    ] = None,
    record: Annotated[Path | None, typer.Option(help="Record all samples to a new file.")] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Let --record continue an existing file.")
    ] = False,
    replay_file: Annotated[
        Path | None, typer.Option("--replay", help="Replay a file written by --record.")
    ] = None,
    speed: Annotated[float, typer.Option(help="Replay speed; 1 is real time.", min=0.01)] = 1.0,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Print one report and exit, with code 1 if the gateway is unreachable."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --once, print JSON.")] = False,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain",
            help="Print lines instead of the dashboard.",
            show_default="without a terminal",
        ),
    ] = False,
    list_metrics: Annotated[
        bool, typer.Option("--list-metrics", help="List all metrics that rules can use, and exit.")
    ] = False,
    numbers: Annotated[bool, typer.Option("--numbers", hidden=True)] = False,
) -> None:
    """Monitor a gateway, its engines and the host."""
    if numbers:
        print("monitor.py: --numbers is deprecated, use --list-metrics", file=sys.stderr)
    if list_metrics or numbers:
        for name, metric in METRICS.items():
            print(f"{name:28}{metric.unit:8}{metric.description}")
        return
    for wrong, message in (
        (as_json and not once, "--json requires --once"),
        (
            record is not None and replay_file is not None,
            "--record and --replay cannot be combined",
        ),
        (append and record is None, "--append requires --record"),
    ):
        if wrong:
            raise ConfigurationError(message)
    options = FeedOptions(
        url=parse_gateway_url(server or url),
        interval=interval,
        api_key=api_key,
        metrics_urls=tuple(map(validate_url, metrics_url or ())),
        record=record,
        append=append,
        recording=None if replay_file is None else Recording(replay_file),
        # --once reports the end of a recording, so it does not wait for it.
        speed=float("inf") if once else speed,
    )
    alert_rules = [
        *(DESIGN_RULES if targets == "design" else ()),
        *(() if rules is None else load_rules(rules)),
    ]
    state = Monitor(options.display_url, alert_rules, window)
    if once:
        raise typer.Exit(asyncio.run(_print_once(options, state, as_json=as_json)))
    if plain or not _is_interactive():
        asyncio.run(_print_lines(options, state))
    else:
        asyncio.run(_show_dashboard(options, state))


def _is_interactive() -> bool:
    """Whether the dashboard can be drawn, which needs a terminal with UTF-8."""
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return is_terminal and os.environ.get("TERM") != "dumb" and is_unicode(sys.stdout)


async def _print_once(options: FeedOptions, state: Monitor, *, as_json: bool) -> int:
    """Print a report of two samples or of a whole recording; return the exit code."""
    view = None
    async with open_feed(options) as feed, aclosing(feed) as snapshots:
        samples = 0
        async for snapshot in snapshots:
            view = state.update(snapshot)
            samples += 1
            is_complete = samples == _SAMPLES_FOR_RATES or view.down_since is not None
            if options.recording is None and is_complete:
                break
    assert view is not None, "every feed has at least one snapshot"  # noqa: S101
    if as_json:
        print(orjson.dumps(build_json(view), option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(format_page(view)))
    return 0 if view.down_since is None else 1


async def _print_lines(options: FeedOptions, state: Monitor) -> None:
    """Print a line per sample until interrupted, or until the recording ends."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    formatter = LineFormatter(width)
    async with open_feed(options) as feed, aclosing(feed) as snapshots:
        async for snapshot in snapshots:
            for line in formatter.format(state.update(snapshot)):
                print(line, flush=True)


async def _show_dashboard(options: FeedOptions, state: Monitor) -> None:
    """Run the dashboard until the user quits."""
    from maxgate.monitor.dashboard import Dashboard  # noqa: PLC0415  # slow to import

    async with open_feed(options) as feed:
        await Dashboard(feed, state).run_async()
