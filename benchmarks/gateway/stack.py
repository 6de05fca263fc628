"""The stand-in and the gateways, each on its core, for as long as a measurement takes."""

import os
import resource
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks.gateway.environments import FOLDER
from benchmarks.gateway.http_client import StandIn, Target
from benchmarks.gateway.processes import pause, started
from benchmarks.gateway.rivals import Gateway, Place
from benchmarks.gateway.subject import Subject

_LOGS = FOLDER / "logs"
# Some work a little without requests, and the clock ticks in hundredths of a second.
_QUIET_SECONDS, _QUIET_SHARE, _QUIET_ATTEMPTS = 0.25, 0.1, 40


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        # All are held until the last one is found, so that none is found twice.
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        return [stack.enter_context(listener).getsockname()[1] for listener in listeners]


@contextmanager
def stand_in(core: int) -> Iterator[StandIn]:
    """MAX's place is taken; the stand-in and this process are on `core`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16_384)), hard))
    (port,) = free_ports(1)
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
    place = Place(*free_ports(2), engine.url, folder)
    log = _LOGS / f"{gateway.name}.log"
    with started(
        gateway.command(place), core=core, log=log, environment=gateway.environment
    ) as process:
        target = Target(place.port, gateway.headers(place))
        url = f"http://127.0.0.1:{place.port}/v1/chat/completions"
        headers = {"content-type": "application/json", **target.headers}
        process.wait_for(url, gateway.start_seconds, first_body, headers)
        yield Subject(process, target, engine, folder)


def wait_for_quiet(subjects: Sequence[Subject]) -> None:
    """Until no gateway works any more; a slow one may have answers left that nobody waits for."""
    for _ in range(_QUIET_ATTEMPTS):
        before = sum(subject.process.cpu_seconds() for subject in subjects)
        pause(_QUIET_SECONDS)
        used = sum(subject.process.cpu_seconds() for subject in subjects) - before
        if used <= _QUIET_SECONDS * _QUIET_SHARE:
            return
