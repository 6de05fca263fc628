"""`maxgate serve`, also known as `python api_server.py`."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Annotated, Literal

import structlog
import typer

from maxgate.api.browsers import is_loopback
from maxgate.auth.file_key_store import load_keys
from maxgate.auth.settings import AuthSettings
from maxgate.cli.engine_host import AdoptedEngine, SupervisedHost
from maxgate.cli.engine_process import EngineChild, EngineStart, select_engines
from maxgate.cli.options import CardOption, ConfigOption, EngineUrlOption, export_flags
from maxgate.cli.ready_banner import ReadyBanner, format_url
from maxgate.clock import SystemClock
from maxgate.control_plane.changes import ManagedEngines
from maxgate.control_plane.changes_file import ChangesFile
from maxgate.control_plane.listener import control_socket, name_gateway
from maxgate.control_plane.model_rooms import ManagedModel, ModelRooms
from maxgate.control_plane.parent import ControlServer
from maxgate.errors import ConfigurationError
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import load_cards
from maxgate.server.instances import Instance, InstanceFile
from maxgate.server.parent import Parent
from maxgate.server.protocol import listening_socket
from maxgate.server.run import is_root, open_standard_descriptors
from maxgate.settings import (
    Settings,
    load_and_configure_logging,
    load_settings,
    print_warning,
)
from maxgate.telemetry.metrics_store import make_folder

_log = structlog.get_logger("cli")


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on.", show_default="8000")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of worker processes.", show_default="1")
    ] = None,
    *,
    config: ConfigOption = None,
    engine_url: EngineUrlOption = None,
    engine: Annotated[
        Literal["local", "docker", "none"] | None,
        typer.Option(help="Start MAX as a local process or a container.", show_default="none"),
    ] = None,
    card: CardOption = None,
    log_format: Annotated[
        Literal["json", "text"] | None,
        typer.Option(help="Format of log lines.", show_default="text on a terminal"),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(help="Minimum level of log lines.", show_default="info"),
    ] = None,
) -> None:
    """Run the gateway until Ctrl-C or SIGTERM; SIGHUP reloads, SIGUSR2 restarts workers.

    Flags override MAXGATE_* environment variables, which override the config file.
    """
    open_standard_descriptors()
    export_flags(
        {
            "config": config,
            "server.host": host,
            "server.port": port,
            "server.workers": workers,
            "engine.mode": engine,
            "engines": engine_url,
            "cards": card,
            "telemetry.log_format": log_format,
            "telemetry.log_level": log_level,
        }
    )
    settings = load_and_configure_logging()
    cards = _read_files(settings)
    starts = select_engines(settings, cards)
    with ExitStack() as stack:
        listeners = stack.enter_context(_listen(settings))
        port = listeners[0].getsockname()[1]
        if settings.telemetry.metrics_dir is not None:
            make_folder(settings.telemetry.metrics_dir)
        else:
            stack.enter_context(_share_metrics())
        file = stack.enter_context(InstanceFile(settings.state_dir, port))
        bound = stack.enter_context(control_socket(settings.state_dir, name_gateway(port)))
        parent = Parent(
            listeners,
            settings.server.workers,
            settings.server.shutdown_timeout,
            lambda parent: file.write(describe_parent(parent, port)),
            bound and bound[1],
        )
        children = [
            EngineChild(
                settings.engine.mode,
                start,
                parent.stop,
                is_only=len(starts) == 1,
                uses_stdout=settings.telemetry.log_format == "json",
            )
            for start in starts
        ]
        _check_on_demand(settings, cards, has_control=bound is not None)
        if bound is not None:
            models = _build_models(settings, cards, starts, children)
            control = stack.enter_context(_control(bound[0], port, parent, models))
            parent.on_reload = control.reload
        for child in children:
            stack.enter_context(child)
        tasks = list(dict.fromkeys(start.card.task for start in starts)) or ["chat"]
        stack.enter_context(
            ReadyBanner(
                format_url(settings.server.host, port),
                [start.url for start in starts],
                tasks,
                needs_key=settings.auth.has_keys or settings.auth.has_jwt,
                configured=[engine.public_url for engine in settings.engines],
            )
        )
        if is_root(os.geteuid()):
            print_warning("running as root, which the gateway does not need; use another user")
        code = parent.run()
    if code or any(child.failed for child in children):
        raise typer.Exit(code or 1)


def _read_files(settings: Settings) -> list[ModelCard]:
    """Read cards and keys first, so that invalid ones are reported before anything starts."""
    if settings.auth.has_keys:
        load_keys(settings.auth, settings.state_dir, is_optional=not settings.needs_key_file)
        if settings.database.is_enabled:
            from maxgate.auth.pepper_check import open_checked_store  # noqa: PLC0415  # slow

            open_checked_store(settings.auth, settings.database, settings.state_dir)
    return load_cards(settings.cards, settings.cache_dir)


@contextmanager
def _listen(settings: Settings) -> Iterator[list[socket.socket]]:
    """Open the listeners: that of the API, and that of the admin API if it has its own."""
    server, admin = settings.server, settings.admin
    places = [(server.host, server.port, "--port or --host")]
    if admin.port is not None:
        places.append((admin.host, admin.port, "admin.port or admin.host"))
    with ExitStack() as stack:
        listeners = []
        for host, port, names in places:
            try:
                listener = stack.enter_context(listening_socket(host, port))
            except (OSError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ConfigurationError(
                    f"cannot listen on {host}:{port}: {reason}. "
                    f"Choose another address with {names}."
                ) from error
            check_exposure(settings.auth, listener.getsockname()[0])
            listeners.append(listener)
        yield listeners


def check_exposure(settings: AuthSettings, address: str) -> None:
    """Raise ConfigurationError if other machines may reach this address by accident."""
    if settings.mode is None and not is_loopback(address):
        raise ConfigurationError(
            f"server.host: other machines may reach {address}, and authentication is not set up; "
            "set auth.mode (MAXGATE_AUTH__MODE) to keys, or to none to serve everyone who can "
            "connect, or listen on 127.0.0.1"
        )


def _check_on_demand(settings: Settings, cards: Sequence[ModelCard], *, has_control: bool) -> None:
    starts_engines = settings.engine.mode != "none"
    if starts_engines and not has_control and any(card.load == "on_demand" for card in cards):
        raise ConfigurationError(
            "models with `load: on_demand` need the control socket, which could not be created; "
            "set state_dir to a folder with a short path that is writable"
        )


def _build_models(
    settings: Settings,
    cards: Sequence[ModelCard],
    starts: Sequence[EngineStart],
    children: Sequence[EngineChild],
) -> list[ManagedModel]:
    """Return the models that can be started here; those of `starts` run already."""
    if settings.engine.mode == "none":
        return []
    models = {
        card.name: ManagedModel(card, is_on_demand=card.load == "on_demand")
        for card in cards
        if card.max is not None
    }
    engines = {engine.public_url: engine for engine in settings.engines}
    for start, child in zip(starts, children, strict=True):
        models[start.card.name].engine = AdoptedEngine(child, engines[start.url])
    return list(models.values())


def _control(
    listening: socket.socket, port: int, parent: Parent, models: Sequence[ManagedModel]
) -> ControlServer:
    """Build the server that owns the list of engines.

    Raises ConfigurationError if the file of their changes is invalid, or leaves no engine.
    """
    settings = load_settings()  # with the variables that were exported meanwhile
    file = ChangesFile(settings.state_dir, name_gateway(port))
    managed = ManagedEngines(settings.engines, file.load(), file.save)
    if not managed.engines:
        raise ConfigurationError(
            f"{file.path}: every engine of the configuration was removed at run time. "
            "Configure another one, or delete the file."
        )
    is_default = "engines" not in settings.model_fields_set
    if models and is_default and not any(model.engine for model in models):
        managed.stopped.update(engine.id for engine in settings.engines)  # nothing listens there
    host = SupervisedHost(
        settings.engine.mode,
        warm_up_timeout=settings.swap.warm_up_timeout,
        uses_stdout=settings.telemetry.log_format == "json",
    )
    rooms = ModelRooms(models, host, managed, SystemClock(), age_bound=settings.swap.age_bound)
    return ControlServer(listening, managed, settings, load_settings, parent.list_serving, rooms)


@contextmanager
def _share_metrics() -> Iterator[None]:
    try:
        folder = tempfile.mkdtemp(prefix="maxgate-metrics-")
    except OSError as error:
        _log.warning("metrics of the workers are not shared", error=str(error))
        yield
        return
    export_flags({"telemetry.metrics_dir": folder})
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def describe_parent(parent: Parent, port: int) -> Instance:
    """Return the state of the parent for `maxgate restart`."""
    workers = [worker.pid for worker in parent.workers if worker.pid and not worker.ending]
    return Instance(os.getpid(), port, workers, parent.restart.rounds, parent.restart.error)
