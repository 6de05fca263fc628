"""`maxgate serve`, also known as `python api_server.py`."""

import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Annotated, Literal

import typer
import uvicorn
from uvicorn.supervisors import Multiprocess

from maxgate.cli.engine_process import EngineChild, engines_to_start
from maxgate.cli.options import CardOption, ConfigOption, EngineUrlOption, export_flags
from maxgate.cli.ready_banner import Announcement
from maxgate.errors import ConfigurationError
from maxgate.model_cards.loader import load_cards
from maxgate.net.write_buffer import WriteBuffer
from maxgate.server.protocol import GatewayProtocol, listening_socket
from maxgate.settings import Settings, load_settings
from maxgate.telemetry.logging import configure_logging
from maxgate.telemetry.metrics_store import make_folder

# OpenAI's SDK keeps idle connections for five seconds and nginx for a minute; closing earlier
# than they do loses requests that are just being sent.
_IDLE_CONNECTION_SECONDS = 75


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on.", show_default="8000")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the port.", show_default="1")
    ] = None,
    config: ConfigOption = None,
    engine_url: EngineUrlOption = None,
    engine: Annotated[
        Literal["local", "docker", "none"] | None,
        typer.Option(help="Start MAX here, as a process or a container.", show_default="none"),
    ] = None,
    card: CardOption = None,
    log_format: Annotated[
        Literal["json", "text"] | None,
        typer.Option(help="How to write logs.", show_default="text on a terminal"),
    ] = None,
) -> None:
    """Run the gateway until it is stopped with Ctrl-C or SIGTERM.

    Flags beat MAXGATE_* environment variables, which beat the config file.
    """
    export_flags(
        host=host, port=port, workers=workers, config=config, engine_urls=engine_url,
        engine=engine, cards=card, log_format=log_format,
    )  # fmt: skip
    settings = load_settings()
    configure_logging(settings.log_format)
    # A bad card is found before anything is started.
    starts = engines_to_start(settings, load_cards(settings.cards))
    with ExitStack() as stack:
        listener = stack.enter_context(_listening(settings.host, settings.port))
        if settings.metrics_dir is not None:
            make_folder(settings.metrics_dir)
        elif settings.workers > 1:
            stack.enter_context(_shared_metrics())
        server = _Server(settings, listener)
        children = [
            EngineChild(settings.engine, start, server.stop, alone=len(starts) == 1)
            for start in starts
        ]
        for child in children:
            stack.enter_context(child)
        url = _url(settings.host, listener.getsockname()[1])
        tasks = list(dict.fromkeys(start.card.task for start in starts)) or ["chat"]
        stack.enter_context(Announcement(url, [start.url for start in starts], tasks))
        server.run()
    if any(child.failed for child in children):
        raise typer.Exit(1)


class _Server:
    """uvicorn, in this process or as the keeper of several."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        config = uvicorn.Config(
            "maxgate.asgi:app",
            workers=settings.workers,
            loop="uvloop",
            http=partial(  # type: ignore[arg-type]  # uvicorn only calls it
                GatewayProtocol, writes=WriteBuffer(), request_read_timeout=settings.body_timeout
            ),
            proxy_headers=False,  # nothing here asks who the client is
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=_IDLE_CONNECTION_SECONDS,
            timeout_graceful_shutdown=settings.shutdown_timeout,
        )
        self._single = uvicorn.Server(config)
        self._several = Multiprocess(config, sockets=[listener]) if settings.workers > 1 else None
        self._listener = listener

    def run(self) -> None:
        """Until a signal comes or `stop` is called."""
        if self._several is not None:
            self._several.run()
            return
        # uvicorn raises the signal again when it has ended; the engine is still to be stopped then.
        signal.signal(signal.SIGTERM, _exit)
        self._single.run(sockets=[self._listener])

    def stop(self) -> None:
        """End as after a signal; from any thread, also before `run`."""
        if self._several is None:
            self._single.should_exit = True
        else:
            self._several.should_exit.set()


def _exit(number: int, frame: object) -> None:  # noqa: ARG001
    raise SystemExit(0)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        listener = listening_socket(host, port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {reason}. Choose another one with --port or --host."
        ) from error
    with listener:
        yield listener


@contextmanager
def _shared_metrics() -> Iterator[None]:
    folder = tempfile.mkdtemp(prefix="maxgate-metrics-")
    export_flags(metrics_dir=folder)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
