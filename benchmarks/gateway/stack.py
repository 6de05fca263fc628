"""The stand-in and the gateways, each on its core, for as long as a measurement takes."""

import os
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.gateway.environments import FOLDER
from benchmarks.gateway.http_client import StandIn, Target
from benchmarks.gateway.processes import started
from benchmarks.gateway.rivals import Gateway, Place
from benchmarks.gateway.subject import Subject

_LOGS = FOLDER / "logs"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def stand_in(core: int) -> Iterator[StandIn]:
    """MAX's place is taken; the stand-in and this process are on `core`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16_384)), hard))
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.gateway.stand_in", "--port", str(port)]
    everything = os.sched_getaffinity(0)
    with started(command, core=core, log=_LOGS / "stand-in.log") as process:
        engine = StandIn(port)
        process.wait_for(engine.url + "/v1/models", 20)
        os.sched_setaffinity(0, {core})
        try:
            yield engine
        finally:
            os.sched_setaffinity(0, everything)


@contextmanager
def running(gateway: Gateway, engine: StandIn, first_body: bytes, core: int) -> Iterator[Subject]:
    """A gateway that has answered its first request. Raises Absent where it does not come up."""
    folder = FOLDER / "run" / gateway.name
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(free_port(), engine.url, folder)
    log = _LOGS / f"{gateway.name}.log"
    with started(
        gateway.command(place), core=core, log=log, environment=gateway.environment
    ) as process:
        target = Target(place.port, gateway.headers(place))
        url = f"http://127.0.0.1:{place.port}/v1/chat/completions"
        headers = {"content-type": "application/json", **target.headers}
        process.wait_for(url, gateway.start_seconds, first_body, headers)
        yield Subject(process, target, engine, folder)
