"""`maxgate engine`: run MAX in the foreground, and look at engines."""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Literal

import httpx
import typer

from maxgate.cards import load_cards
from maxgate.cli.engine_child import card_called
from maxgate.cli.engine_show import show
from maxgate.cli.options import CardOption, export_flags
from maxgate.cli.progress import EngineProgress
from maxgate.clock import SystemClock
from maxgate.engine.launcher import Launcher, read_tail
from maxgate.engine.start import EnginePlace, launcher_for
from maxgate.engine.supervisor import Supervisor
from maxgate.errors import EngineError
from maxgate.generation.model_files import ModelFiles
from maxgate.settings import Settings, load_settings

_SHOWN_LINES = 20


def commands() -> typer.Typer:
    """The subcommands."""
    app = typer.Typer(help="Run MAX, and see what engines can do.", no_args_is_help=True)
    app.command("start")(start)
    app.command("show")(show)
    return app


def start(
    name: Annotated[
        str | None, typer.Argument(help="The model's name; the first one for chat if left out.")
    ] = None,
    card: CardOption = None,
    kind: Annotated[
        Literal["local", "docker"], typer.Option(help="A process or a container.")
    ] = "local",
    port: Annotated[int, typer.Option(help="The port MAX listens on.")] = 8080,
    until_stdin_closes: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Start MAX with a model, keep it up, and stop it with Ctrl-C."""
    export_flags(cards=card)
    settings = load_settings()
    chosen = card_called(name or settings.max.card, load_cards(settings.cards))
    place = EnginePlace("127.0.0.1", port)
    files = ModelFiles.of(settings.data_dir)
    launcher = launcher_for(kind, chosen, place, files, settings.max)
    progress = EngineProgress(chosen.name)
    try:
        asyncio.run(_supervise(launcher, place, settings, progress, until_stdin_closes))
    except EngineError as error:
        progress.close()
        _show_log(launcher)
        raise EngineError(f"MAX with {chosen.name} did not start: {error}") from error
    finally:
        progress.close()


async def _supervise(
    launcher: Launcher,
    place: EnginePlace,
    settings: Settings,
    progress: EngineProgress,
    until_stdin_closes: bool,
) -> None:
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(trust_env=False) as client:
        supervisor = Supervisor(
            launcher,
            place.url,
            progress,
            clock=SystemClock(),
            start_timeout=settings.max.start_timeout,
            client=client,
        )
        running = asyncio.create_task(supervisor.run())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, running.cancel)
        if until_stdin_closes:
            _call_when_closed(sys.stdin.fileno(), running.cancel)
        with suppress(asyncio.CancelledError):
            await running


def _call_when_closed(pipe: int, stop: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()

    def closed() -> None:
        loop.remove_reader(pipe)  # it stays readable: this would be called again and again
        stop()

    loop.add_reader(pipe, closed)


def _show_log(launcher: Launcher) -> None:
    lines = read_tail(launcher.log_file).splitlines()[-_SHOWN_LINES:]
    if lines:
        print(f"--- the end of {launcher.log_file}:", *lines, "---", sep="\n", file=sys.stderr)
