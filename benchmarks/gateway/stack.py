"""Run the stand-in and the gateways, each on its core, for the time of a measurement."""

import os
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.environments import FOLDER
from benchmarks.gateway.gateways import Gateway, StartOptions
from benchmarks.gateway.http_client import StandIn, Target
from benchmarks.gateway.processes import Process, pause, start_process
from tests.fakes.processes import free_port

LOGS = FOLDER / "logs"
_OPEN_FILES = 16_384
# Some gateways use a little CPU without requests.
_QUIET_SECONDS, _QUIET_SHARE, _QUIET_ATTEMPTS = 0.25, 0.1, 40


@dataclass
class RunningGateway:
    """A running gateway in front of the stand-in, and a folder for files of the measurement."""

    process: Process
    target: Target
    engine: StandIn
    folder: Path
    capacity: float = 0
    """Requests per second at saturation; 0 until the case `chat` has measured it."""


def find_free_ports(count: int) -> list[int]:
    """Return different ports without a listener, which the system gives to no connection."""
    ports: dict[int, None] = {}
    while len(ports) < count:
        ports[free_port()] = None
    return list(ports)


@contextmanager
def run_stand_in(core: int) -> Iterator[StandIn]:
    """Run the stand-in on `core`, and pin this process to the same core."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _OPEN_FILES)), hard))
    (port,) = find_free_ports(1)
    command = [sys.executable, "-m", "benchmarks.gateway.stand_in", "--port", str(port)]
    all_cores = os.sched_getaffinity(0)
    with start_process(command, core=core, log=LOGS / "stand-in.log") as process:
        engine = StandIn(port)
        process.wait_for(engine.url + "/v1/models", 20)
        os.sched_setaffinity(0, {core})
        try:
            yield engine
        finally:
            os.sched_setaffinity(0, all_cores)


@contextmanager
def run_gateway(
    gateway: Gateway, engine: StandIn, first_body: bytes, core: int
) -> Iterator[RunningGateway]:
    """Run a gateway on `core` and wait for its first response.

    Raises Unavailable if it does not respond to `first_body` in time.
    """
    folder = FOLDER / "run" / gateway.name
    folder.mkdir(parents=True, exist_ok=True)
    port, metrics_port = find_free_ports(2)
    options = StartOptions(port, metrics_port, engine.url, folder)
    with start_process(
        gateway.command(options),
        core=core,
        log=LOGS / f"{gateway.name}.log",
        environment=gateway.environment,
    ) as process:
        target = Target(port, gateway.headers(options))
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        headers = {"content-type": "application/json", **target.headers}
        process.wait_for(url, gateway.start_timeout, first_body, headers)
        yield RunningGateway(process, target, engine, folder)


def wait_until_quiet(gateways: Sequence[RunningGateway]) -> None:
    """Wait until the gateways use no CPU: slow ones may still process abandoned requests."""
    for _ in range(_QUIET_ATTEMPTS):
        before = sum(gateway.process.cpu_seconds() for gateway in gateways)
        pause(_QUIET_SECONDS)
        used = sum(gateway.process.cpu_seconds() for gateway in gateways) - before
        if used <= _QUIET_SECONDS * _QUIET_SHARE:
            return
