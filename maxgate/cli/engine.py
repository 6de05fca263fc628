"""`maxgate engine`: run MAX in the foreground, and show what engines serve."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, fields
from typing import Annotated, Final, Literal

import httpx
import orjson
import structlog
import typer

from maxgate.cli.engine_process import find_card
from maxgate.cli.options import CardOption, ConfigOption, EngineUrlOption, export_flags
from maxgate.cli.progress import EngineProgress, LoggedProgress
from maxgate.clock import SystemClock
from maxgate.engine.launcher import EngineAddress, Launcher, build_launcher, read_tail
from maxgate.engine.log_relay import EngineLine, LogRelay
from maxgate.engine.supervisor import Supervisor
from maxgate.errors import EngineError
from maxgate.generation.catalog import Capabilities, PromptSource
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import ModelFiles, load_cards, suggest_tokenizer_command
from maxgate.prompts.registry import UNPROTECTED, PromptFormats, PromptProblem
from maxgate.settings import Settings, configure_logging_by, load_settings, print_warning
from maxgate.upstream.capabilities import probe_capabilities
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.max_api.models import ModelListError, list_models
from maxgate.upstream.replica import Replica, ReplicaState, find_software
from maxgate.upstream.replica_set import ReplicaSet

_LOG_LINES: Final = 20
_CAPABILITIES: Final = tuple([field.name for field in fields(Capabilities)])
_HEAD: Final = ("ENGINE", "STATE", "MODEL", *[name.upper() for name in _CAPABILITIES], "PROMPTS")
_WORDS: Final = {True: "yes", False: "no", None: "?"}
# The flag of MAX that adds each capability.
_FLAGS: Final = {
    "grammar": "--enable-structured-output (GPU)",
    "logprobs": "--no-enable-overlap-scheduler",
    "penalties": "--enable-penalties",
    "min_tokens": "--enable-min-tokens",
}


def commands() -> typer.Typer:
    """Build the subcommands."""
    app = typer.Typer(help="Run MAX, and show what engines can do.", no_args_is_help=True)
    app.command("start")(start)
    app.command("show")(show)
    return app


@dataclass(frozen=True, slots=True)
class EngineReport:
    """The state of an engine, with the field names of `GET /health`."""

    url: str
    state: ReplicaState
    models: list[str]
    error: str | None
    capabilities: dict[str, Capabilities]
    software: str | None = None


def show(
    engine_url: EngineUrlOption = None,
    card: CardOption = None,
    config: ConfigOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON, shaped as in GET /health.")
    ] = False,
) -> None:
    """List the models of each engine, their capabilities, and where prompts are encoded.

    Uses the settings of `maxgate serve`. Exits with 1 if an engine is unreachable.
    """
    export_flags({"engines": engine_url, "cards": card, "config": config})
    settings = load_settings()
    cards = load_cards(settings.cards, settings.cache_dir)
    embedding = [card.served_model_name for card in cards if card.task == "embeddings"]
    engines = asyncio.run(inspect_engines(settings, embedding))
    software = {name: engine.software for engine in engines for name in engine.models}
    models = asyncio.run(inspect_prompts(settings, cards, software))
    if as_json:
        found = {
            "engines": engines,
            "prompts": {name: prompts.source for name, prompts in models.items()},
        }
        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    else:
        print(_format_table(engines, models), *_suggest_flags(engines), sep="\n")
        print(*_describe_prompts(models), sep="", end="")
    unreachable = [f"{engine.url} ({engine.error})" for engine in engines if engine.error]
    if unreachable:
        raise EngineError(
            f"no engine at {', '.join(unreachable)}: start MAX there with `maxgate engine start`, "
            "or set its URL with --engine-url"
        )


async def inspect_engines(
    settings: Settings, embedding_models: Collection[str]
) -> list[EngineReport]:
    """Inspect the engines in the order of `settings.engines`; embedding models are not probed."""
    upstream = settings.upstream
    client = EngineTransport(upstream, settings.engines)

    async def inspect(engine: Replica) -> EngineReport:
        url = engine.url
        try:
            models = await list_models(client, engine.target, read_timeout=upstream.probe_timeout)
        except ModelListError as error:
            return EngineReport(url, "unreachable", [], str(error), {})
        names = sorted(models)
        probed = [name for name in names if name not in embedding_models]
        capabilities = await probe_capabilities(
            client, engine.target, probed, read_timeout=upstream.capability_probe_timeout
        )
        return EngineReport(url, "healthy", names, None, capabilities, find_software(models))

    async with aclosing(client):
        engines = ReplicaSet(settings.engines)
        await engines.look_up()
        return await asyncio.gather(*[inspect(replica) for replica in engines.replicas])


@dataclass(frozen=True, slots=True)
class ModelPrompts:
    """Where the prompts of a model become token ids; `problem` is why not in the gateway."""

    source: PromptSource
    problem: PromptProblem | None


async def inspect_prompts(
    settings: Settings, cards: Sequence[ModelCard], software: Mapping[str, str | None]
) -> dict[str, ModelPrompts]:
    """Load the prompt formats of models, by the engines' names, as the gateway would.

    `software` maps each model to the name of its engine's software.
    """
    files = ModelFiles.locate(settings.cache_dir)
    formats = PromptFormats(cards, files)
    by_name = {card.served_model_name: card for card in cards}

    async def inspect(name: str) -> ModelPrompts:
        card = by_name.get(name)
        is_embedding = card is not None and card.task == "embeddings"
        if card is not None and is_embedding:
            missing = files.find_tokenizer(card.tokenizer) is None
            fix = suggest_tokenizer_command(card)
            problem = PromptProblem("its tokenizer is not here", fix) if missing else None
        elif (engine := software[name]) not in {"MAX", None}:
            problem = PromptProblem(
                f"its engine is {engine}", "only MAX takes token ids as prompts"
            )
        else:
            problem = await formats.find_problem(name)
        required = settings.require_tokenizer or (card is not None and card.require_tokenizer)
        if problem is None:
            return ModelPrompts("gateway", None)
        return ModelPrompts("unavailable" if required or is_embedding else "engine", problem)

    return {name: await inspect(name) for name in software}


def _describe_prompts(models: Mapping[str, ModelPrompts]) -> list[str]:
    effects = {"engine": UNPROTECTED, "unavailable": "requests get 503"}
    return [
        f"prompts of {name}: {model.problem.reason}, so {effects[model.source]}; "
        f"{model.problem.fix}\n"
        for name, model in models.items()
        if model.problem is not None
    ]


def _format_table(engines: Sequence[EngineReport], models: Mapping[str, ModelPrompts]) -> str:
    rows = [_HEAD]
    for engine in engines:
        for model in engine.models or ["-"]:
            found = engine.capabilities.get(model)
            words = [_WORDS[getattr(found, name)] if found else "-" for name in _CAPABILITIES]
            prompts = models[model].source if model in models else "-"
            rows.append((engine.url, engine.state, model, *words, prompts))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _suggest_flags(engines: Sequence[EngineReport]) -> list[str]:
    missing = {
        name: flag
        for name, flag in _FLAGS.items()
        if any(
            getattr(capabilities, name) is False
            for engine in engines
            if engine.software == "MAX"
            for capabilities in engine.capabilities.values()
        )
    }
    return [f"{name}: start MAX with {flag}" for name, flag in missing.items()]


def start(
    name: Annotated[
        str | None, typer.Argument(help="Name of the model; the first chat model by default.")
    ] = None,
    card: CardOption = None,
    kind: Annotated[
        Literal["local", "docker"], typer.Option(help="Start a process or a container.")
    ] = "local",
    port: Annotated[int, typer.Option(help="Port that MAX listens on.")] = 8080,
    until_stdin_closes: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Start MAX with a model, restart it when it exits, and stop it on Ctrl-C."""
    export_flags({"cards": card})
    # As a child of the gateway: the gateway has printed the warnings.
    settings = load_settings(warn=(lambda _: None) if until_stdin_closes else print_warning)
    chosen = find_card(name or settings.engine.card, load_cards(settings.cards, settings.cache_dir))
    address = EngineAddress("127.0.0.1", port)
    files = ModelFiles.locate(settings.cache_dir)
    logs_json = settings.telemetry.log_format == "json"
    launcher = build_launcher(kind, chosen, address, files, settings.engine, json_logs=logs_json)
    if logs_json:
        configure_logging_by(settings)
    progress = (LoggedProgress if logs_json else EngineProgress)(chosen.name)
    try:
        asyncio.run(_supervise(launcher, address, settings, progress, until_stdin_closes))
    except EngineError as error:
        progress.close()
        if not logs_json:  # the log has these lines
            _print_log(launcher)
        raise EngineError(f"MAX with {chosen.name} did not start: {error}") from error
    finally:
        progress.close()


async def _supervise(
    launcher: Launcher,
    address: EngineAddress,
    settings: Settings,
    progress: EngineProgress,
    until_stdin_closes: bool,
) -> None:
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(trust_env=False) as client:
        supervisor = Supervisor(
            launcher,
            address.url,
            progress,
            clock=SystemClock(),
            start_timeout=settings.engine.start_timeout,
            client=client,
        )
        launcher.log_file.unlink(missing_ok=True)
        running = asyncio.create_task(supervisor.run())
        if settings.telemetry.log_format == "json":
            relay = asyncio.create_task(LogRelay(launcher.log_file, _log_line).run())
            running.add_done_callback(lambda _: relay.cancel())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, running.cancel)
        if until_stdin_closes:
            _call_when_closed(sys.stdin.fileno(), running.cancel)
        with suppress(asyncio.CancelledError):
            await running


def _log_line(line: EngineLine) -> None:
    structlog.get_logger("max").log(
        logging.getLevelNamesMapping()[line.level.upper()], line.message, **line.fields
    )


def _call_when_closed(pipe: int, callback: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()

    def on_readable() -> None:
        loop.remove_reader(pipe)  # a closed pipe stays readable, which would call this repeatedly
        callback()

    loop.add_reader(pipe, on_readable)


def _print_log(launcher: Launcher) -> None:
    lines = read_tail(launcher.log_file).splitlines()[-_LOG_LINES:]
    if lines:
        print(f"--- the end of {launcher.log_file}:", *lines, "---", sep="\n", file=sys.stderr)
