"""Gateways that differ in their settings, in one process, so that they can be compared exactly.

    python -m benchmarks.gateway.one_process PORT=FILE...

Two processes of the same program, with the same settings, differ by up to 10 % in the CPU time of a
request for as long as they live. Gateways in one process share code, interpreter and event loop;
those without load only run their timers. Each FILE has the settings of a gateway as YAML. On
SIGRTMIN + N, the ledger of the Nth gateway, from 0, moves its lines to the database. SIGTERM ends
the process without cleaning up.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
import yaml

from benchmarks.gateway.http_client import StandIn, Target
from benchmarks.gateway.processes import start_process
from benchmarks.gateway.stack import LOGS, RunningGateway, find_free_ports
from benchmarks.stack import CARD
from maxgate.api.app import Gateway
from maxgate.app import create_app
from maxgate.server.control import ServingState
from maxgate.server.protocol import listening_socket
from maxgate.server.run import raise_descriptor_limit, tune_event_loop, tune_process
from maxgate.server.worker import build_config
from maxgate.settings import Settings, configure_logging_by
from maxgate.telemetry.worker_folder import open_folder
from maxgate.usage.ledger import SpooledLedger

FIRST_MOVE = signal.Signals(signal.SIGRTMIN)
"""Signal that lets the ledger of the first gateway move its lines to the database."""
_START_TIMEOUT = 180  # under valgrind


@contextmanager
def run_in_one_process(
    configs: Mapping[str, Mapping[str, Any]],
    engine: StandIn,
    first_body: bytes,
    core: int,
    folder: Path,
    headers: Mapping[str, str] | None = None,
    *,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[dict[str, RunningGateway]]:
    """Run a gateway for each configuration, in one process on `core`.

    `headers` are those of every request to them. The command line of the process follows `prefix`,
    and `environment` is added to its own. Raises Unavailable if a gateway does not respond to
    `first_body` in time.
    """
    ports = dict(zip(configs, find_free_ports(len(configs)), strict=True))
    arguments = []
    for name, config in configs.items():
        file = folder / f"{name}.yaml"
        settings = {"engines": [{"url": engine.url}], "cards": [str(CARD)], **config}
        file.write_text(yaml.safe_dump(settings))
        arguments.append(f"{ports[name]}={file}")
    command = [*prefix, sys.executable, "-m", "benchmarks.gateway.one_process", *arguments]
    log = LOGS / "one process.log"
    with start_process(command, core=core, log=log, environment=environment) as process:
        gateways = {}
        for name, port in ports.items():
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            target = Target(port, headers or {})
            first_headers = {"content-type": "application/json", **target.headers}
            process.wait_for(url, _START_TIMEOUT, first_body, first_headers)
            run_folder = folder / f"{name} run"
            run_folder.mkdir(exist_ok=True)
            gateways[name] = RunningGateway(process, target, engine, run_folder)
        yield gateways


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # several servers would take each other's


async def _serve(apps: Mapping[int, tuple[Gateway, Settings]]) -> None:
    def move_lines(app: Gateway) -> None:
        if isinstance(app._ledger, SpooledLedger):  # noqa: SLF001  # nobody else needs this
            moves.append(asyncio.ensure_future(app._ledger._mover.move()))  # noqa: SLF001

    moves: list[asyncio.Future[bool]] = []
    loop = asyncio.get_running_loop()
    for number, (app, _) in enumerate(apps.values()):
        loop.add_signal_handler(signal.SIGRTMIN + number, move_lines, app)
    servers = [
        _Server(build_config(app, settings.server, ServingState())).serve(
            [listening_socket("127.0.0.1", port)]
        )
        for port, (app, settings) in apps.items()
    ]
    await asyncio.gather(*servers)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("gateways", nargs="+", metavar="PORT=FILE")
    apps = {}
    for gateway in parser.parse_args(arguments).gateways:
        port, _, name = gateway.partition("=")
        file = Path(name)
        settings = Settings(**yaml.safe_load(file.read_text()))
        if not apps:
            configure_logging_by(settings)
        folder = open_folder(file.with_suffix(".metrics"))
        app = create_app(settings, worker_folder=folder, on_startup=tune_event_loop)
        apps[int(port)] = app, settings
    raise_descriptor_limit()
    tune_process()
    uvloop.run(_serve(apps))


if __name__ == "__main__":
    main()
