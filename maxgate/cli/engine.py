"""`maxgate engine`: run MAX in the foreground, and look at engines."""

import asyncio
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import httpx
import orjson
import typer

from maxgate.cli.engine_process import card_called
from maxgate.cli.options import CardOption, ConfigOption, EngineUrlOption, export_flags
from maxgate.cli.progress import EngineProgress
from maxgate.clock import SystemClock
from maxgate.engine.launcher import EnginePlace, Launcher, launcher_for, read_tail
from maxgate.engine.supervisor import Supervisor
from maxgate.errors import EngineError
from maxgate.generation.catalog import Capabilities
from maxgate.model_cards.loader import ModelFiles, load_cards
from maxgate.settings import Settings, load_settings
from maxgate.upstream.capabilities import probe_capabilities
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.max_api.models import ModelListError, list_models
from maxgate.upstream.replica import ReplicaState

_ABILITIES = tuple([field.name for field in fields(Capabilities)])
_HEAD = ("ENGINE", "STATE", "MODEL", *[name.upper() for name in _ABILITIES])
_WORDS = {True: "yes", False: "no", None: "?"}
# By which flag an engine can do more; the grammar needs a GPU.
_FLAGS = {
    "grammar": "--enable-structured-output (GPU)",
    "logprobs": "--no-enable-overlap-scheduler",
    "penalties": "--enable-penalties",
}


@dataclass(frozen=True, slots=True)
class SeenEngine:
    """An engine as it answers now, in the words of `GET /health`."""

    url: str
    state: ReplicaState
    models: list[str]
    error: str | None
    capabilities: dict[str, Capabilities]


def show(
    engine_url: EngineUrlOption = None,
    card: CardOption = None,
    config: ConfigOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON, as GET /health has it.")
    ] = False,
) -> None:
    """Ask each engine for its models, and try what they can do.

    Takes the settings of `maxgate serve`. Exits with 1 where an engine is not there.
    """
    export_flags(engine_urls=engine_url, cards=card, config=config)
    settings = load_settings()
    embedding = [c.served_model_name for c in load_cards(settings.cards) if c.task == "embeddings"]
    engines = asyncio.run(look_at(settings, embedding))
    if as_json:
        print(orjson.dumps({"engines": engines}, option=orjson.OPT_INDENT_2).decode())
    else:
        print(_table(engines), *_advice(engines), sep="\n")
    away = [f"{engine.url} ({engine.error})" for engine in engines if engine.error]
    if away:
        raise EngineError(
            f"no engine at {', '.join(away)}: start MAX there with `maxgate engine start`, "
            "or say where it is with --engine-url"
        )


async def look_at(settings: Settings, embedding_models: Collection[str]) -> list[SeenEngine]:
    """The engines in the order of their URLs; models for embeddings are not tried."""
    upstream = settings.upstream
    client = EngineTransport(upstream)

    async def one(url: str) -> SeenEngine:
        try:
            models = await list_models(client, url, read_timeout=upstream.probe_timeout)
        except ModelListError as error:
            return SeenEngine(url, "unreachable", [], str(error), {})
        names = sorted(models)
        tried = [name for name in names if name not in embedding_models]
        capabilities = await probe_capabilities(
            client, url, tried, read_timeout=upstream.capability_probe_timeout
        )
        return SeenEngine(url, "healthy", names, None, capabilities)

    async with aclosing(client):
        return await asyncio.gather(*[one(url.rstrip("/")) for url in settings.engine_urls])


def _table(engines: Sequence[SeenEngine]) -> str:
    rows = [_HEAD]
    for engine in engines:
        for model in engine.models or ["-"]:
            found = engine.capabilities.get(model)
            known = [_WORDS[getattr(found, name)] if found else "-" for name in _ABILITIES]
            rows.append((engine.url, engine.state, model, *known))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _advice(engines: Sequence[SeenEngine]) -> list[str]:
    missing = {
        name: flag
        for name, flag in _FLAGS.items()
        if any(getattr(a, name) is False for e in engines for a in e.capabilities.values())
    }
    return [f"{name}: MAX has it when started with {flag}" for name, flag in missing.items()]


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
