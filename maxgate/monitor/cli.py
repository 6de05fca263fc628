"""The command `monitor.py`."""

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, NoReturn

import orjson
import typer

from maxgate.cli.run import run
from maxgate.errors import ConfigurationError
from maxgate.monitor.alerts import DEFAULT_RULES, Rule, load_rules
from maxgate.monitor.catalogue import CATALOGUE
from maxgate.monitor.feed import Target, View, Watch, checked_url, open_feed
from maxgate.monitor.recording import Recording
from maxgate.monitor.text_output import PlainLines, answer, page

_LOOKS = 2  # rates need two


async def show_once(target: Target, rules: Sequence[Rule], window: float, *, as_json: bool) -> int:
    """Print one look, or the end of a recording; 1 if the gateway was away, else 0."""
    watch, view = Watch(target.shown_url, rules, window), None
    async with open_feed(target) as feed, aclosing(feed) as snapshots:
        looks = 0
        async for snapshot in snapshots:
            view = watch.see(snapshot)
            looks += 1
            if target.recording is None and (looks == _LOOKS or view.away_since is not None):
                break
    assert view is not None, "every feed has at least one snapshot"  # noqa: S101
    print(_json(view) if as_json else "\n".join(page(view)))
    return 0 if view.away_since is None else 1


def _json(view: View) -> str:
    return orjson.dumps(answer(view), option=orjson.OPT_INDENT_2).decode()


async def show_lines(target: Target, rules: Sequence[Rule], window: float) -> None:
    """Print a line per look, until it is interrupted or the recording ends."""
    watch, plain = Watch(target.shown_url, rules, window), PlainLines()
    async with open_feed(target) as feed, aclosing(feed) as snapshots:
        async for snapshot in snapshots:
            for line in plain.lines(watch.see(snapshot)):
                print(line, flush=True)


async def show_screen(target: Target, rules: Sequence[Rule], window: float) -> None:
    """Run the dashboard until it is quit."""
    from maxgate.monitor.dashboard import Dashboard  # noqa: PLC0415  # slow to import

    async with open_feed(target) as feed:
        await Dashboard(feed, Watch(target.shown_url, rules, window)).run_async()


def is_terminal() -> bool:
    """Whether both ends are a terminal that can be drawn on."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run it, with this process's arguments if none are given, and exit."""
    run(monitor, "monitor.py", arguments)


def monitor(
    *,
    url: Annotated[str, typer.Option(help="The gateway.")] = "http://localhost:8000",
    interval: Annotated[float, typer.Option(help="Seconds between looks.", min=0.1)] = 1.0,
    window: Annotated[
        float, typer.Option(help="Seconds that percentiles and rates are over.", min=1)
    ] = 60.0,
    api_key: Annotated[
        str | None, typer.Option(help="Sent as a bearer token.", envvar="MAXGATE_API_KEY")
    ] = None,
    metrics_url: Annotated[
        list[str] | None,
        typer.Option(
            help="MAX's own metrics; repeatable.", show_default="the port after each engine's"
        ),
    ] = None,
    rules: Annotated[Path | None, typer.Option(help="YAML file with alert rules.")] = None,
    record: Annotated[Path | None, typer.Option(help="Write what is read to this file.")] = None,
    replay_file: Annotated[
        Path | None, typer.Option("--replay", help="Show a file that --record wrote.")
    ] = None,
    speed: Annotated[float, typer.Option(help="How fast to replay.", min=0.01)] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print one look and exit; 1 if the gateway is away.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --once: as JSON.")] = False,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Lines instead of a screen.", show_default="off a terminal"),
    ] = False,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="List the numbers that rules can be about, and exit.")
    ] = False,
) -> None:
    """Watch a gateway, its engines and its machine."""
    if numbers:
        _list_numbers()
        return
    if as_json and not once:
        raise ConfigurationError("--json goes with --once")
    if record is not None and replay_file is not None:
        raise ConfigurationError("--record and --replay do not go together")
    target = Target(
        url=checked_url(url),
        interval=interval,
        api_key=api_key,
        metrics_urls=tuple(map(checked_url, metrics_url or ())),
        record=record,
        recording=None if replay_file is None else Recording(replay_file),
        # The end of a recording is wanted at once.
        speed=float("inf") if once else speed,
    )
    chosen = DEFAULT_RULES if rules is None else load_rules(rules)
    if once:
        raise typer.Exit(asyncio.run(show_once(target, chosen, window, as_json=as_json)))
    if plain or not is_terminal() or os.environ.get("TERM") == "dumb":
        asyncio.run(show_lines(target, chosen, window))
    else:
        asyncio.run(show_screen(target, chosen, window))


def _list_numbers() -> None:
    for name, quantity in CATALOGUE.items():
        print(f"{name:28}{quantity.unit:8}{quantity.text}")
