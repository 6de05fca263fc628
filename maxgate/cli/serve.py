"""`maxgate serve`, also known as `python api_server.py`."""

import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Annotated, Literal

import structlog
import typer
import uvicorn

from maxgate.cli.engine_process import EngineChild, select_engines
from maxgate.cli.options import CardOption, ConfigOption, EngineUrlOption, export_flags
from maxgate.cli.ready_banner import ReadyBanner
from maxgate.errors import ConfigurationError
from maxgate.model_cards.loader import load_cards
from maxgate.net.write_buffer import WriteBuffer
from maxgate.server.protocol import GatewayProtocol, listening_socket
from maxgate.server.run import open_standard_descriptors
from maxgate.server.settings import ServerSettings
from maxgate.server.shutdown import GatewayServer, GatewaySupervisor
from maxgate.settings import load_and_configure_logging
from maxgate.telemetry.metrics_store import make_folder

_log = structlog.get_logger()


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
    """Run the gateway until Ctrl-C or SIGTERM.

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
    # Read the cards first, so that an invalid one is reported before anything starts.
    starts = select_engines(settings, load_cards(settings.cards, settings.cache_dir))
    with ExitStack() as stack:
        listener = stack.enter_context(_listen(settings.server.host, settings.server.port))
        if settings.telemetry.metrics_dir is not None:
            make_folder(settings.telemetry.metrics_dir)
        elif settings.server.workers > 1:
            stack.enter_context(_share_metrics())
        server = _Server(settings.server, listener)
        children = [
            EngineChild(
                settings.engine.mode,
                start,
                server.stop,
                is_only=len(starts) == 1,
                uses_stdout=settings.telemetry.log_format == "json",
            )
            for start in starts
        ]
        for child in children:
            stack.enter_context(child)
        url = _format_url(settings.server.host, listener.getsockname()[1])
        tasks = list(dict.fromkeys(start.card.task for start in starts)) or ["chat"]
        stack.enter_context(ReadyBanner(url, [start.url for start in starts], tasks))
        server.run()
    if any(child.failed for child in children):
        raise typer.Exit(1)


class _Server:
    """uvicorn, in this process or as the supervisor of several workers."""

    def __init__(self, settings: ServerSettings, listener: socket.socket) -> None:
        config = uvicorn.Config(
            "maxgate.asgi:app",
            workers=settings.workers,
            loop="uvloop",
            http=partial(  # type: ignore[arg-type]  # uvicorn only calls it
                GatewayProtocol,
                writes=WriteBuffer(),
                request_read_timeout=settings.request_read_timeout,
                write_timeout=settings.write_timeout,
            ),
            proxy_headers=False,  # the client's address is not used
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_timeout,
            timeout_graceful_shutdown=settings.shutdown_timeout,
        )
        self._single = GatewayServer(config)
        self._multiple = GatewaySupervisor(config, [listener]) if settings.workers > 1 else None
        self._listener = listener

    def run(self) -> None:
        """Serve until a signal or `stop`."""
        if self._multiple is not None:
            self._multiple.run()
            return
        # uvicorn raises the signal again after its shutdown, but the engine has yet to be stopped.
        signal.signal(signal.SIGTERM, _exit)
        self._single.run(sockets=[self._listener])

    def stop(self) -> None:
        """Shut down as on a signal; works from any thread, and before `run`."""
        if self._multiple is None:
            self._single.should_exit = True
        else:
            self._multiple.should_exit.set()


def _exit(number: int, frame: object) -> None:  # noqa: ARG001
    raise SystemExit(0)


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    try:
        listener = listening_socket(host, port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {reason}. "
            "Choose another address with --port or --host."
        ) from error
    with listener:
        yield listener


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


def _format_url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
