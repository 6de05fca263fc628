"""The command `monitor.py`."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from maxgate.errors import ConfigurationError
from maxgate.tools.command_line import run
from maxgate.tools.monitor.feed import Target, checked_url
from maxgate.tools.monitor.modes import is_terminal, show_lines, show_once, show_screen
from maxgate.tools.monitor.quantities import CATALOGUE
from maxgate.tools.monitor.recording import Recording
from maxgate.tools.monitor.rules import DEFAULT_RULES, load_rules


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
