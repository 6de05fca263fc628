"""The CPU time of chat requests of several gateways in one process, which have load in turn."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple

from benchmarks.gateway.cases import CaseFailed
from benchmarks.gateway.processes import pause
from benchmarks.gateway.results import Sample
from benchmarks.gateway.stack import RunningGateway, wait_until_quiet
from benchmarks.gateway.wrk import start_wrk

TURNS: Final = 4
"""Turns of each gateway in a window: the speed of a shared machine changes within seconds."""
_CONNECT_SECONDS: Final = 1.0
_MAX_SECONDS: Final = 3600


class _Total(NamedTuple):
    """CPU time in seconds, and what it was used for."""

    cpu: float = 0.0
    requests: int = 0

    def add(self, other: "_Total") -> "_Total":
        """Return the sum of both."""
        return _Total(self.cpu + other.cpu, self.requests + other.requests)

    def build_sample(self, name: str) -> Sample:
        """Return the sample of a window; raises CaseFailed without requests."""
        if not self.requests:
            raise CaseFailed(f"{name}: no requests")
        return {"cpu_us": self.cpu / self.requests * 1e6, "rate": self.requests / self.cpu}


def measure_chat_in_windows(
    gateways: Mapping[str, RunningGateway],
    body: bytes,
    windows: int,
    seconds: float,
    connections: int,
    keys: Sequence[str] = (),
) -> list[dict[str, Sample]]:
    """Measure the CPU time of a chat request in each window of each gateway.

    `body` is a template of requests, see `benchmarks.gateway.prompts`, which use the API `keys` in
    turn. In a window, each gateway is at saturation over `connections` for `seconds`, in turns in
    which the others have no load. At the end of a turn, it finishes the requests that have arrived;
    at the end of the window, its ledger moves their lines to the database. The time of all of this
    is divided by the requests that the engine got. The order of gateways is reversed from turn to
    turn, and the first window of each warms it up.

    Raises CaseFailed if a gateway serves nothing.
    """
    found: list[dict[str, Sample]] = []
    names = list(gateways)
    with ExitStack() as stack:
        loads = {}
        for name, gateway in gateways.items():
            loads[name] = load = _start_load(gateway, body, connections, keys)
            stack.callback(_kill, load)
            pause(_CONNECT_SECONDS)
            load.send_signal(signal.SIGSTOP)
            wait_until_quiet([gateway])
        numbers = {name: number for number, name in enumerate(gateways)}
        for _ in range(windows + 1):
            totals = dict.fromkeys(names, _Total())
            for turn in range(TURNS):
                for name in names:
                    number = numbers[name] if turn == TURNS - 1 else None
                    used = _take_turn(gateways[name], loads[name], seconds / TURNS, number)
                    totals[name] = totals[name].add(used)
                names.reverse()
            found.append({name: total.build_sample(name) for name, total in totals.items()})
    return found[1:]


def _start_load(
    gateway: RunningGateway, body: bytes, connections: int, keys: Sequence[str]
) -> "subprocess.Popen[str]":
    body_file = gateway.folder / "body.json"
    body_file.write_bytes(body)
    gateway.engine.set_script()
    keys_file = gateway.folder / "keys.txt"
    keys_file.write_text("\n".join(keys))
    return start_wrk(
        f"http://127.0.0.1:{gateway.target.port}/v1/chat/completions",
        body_file,
        seconds=_MAX_SECONDS,
        connections=connections,
        headers=gateway.target.headers,
        keys=keys_file,
    )


def _take_turn(
    gateway: RunningGateway, load: "subprocess.Popen[str]", seconds: float, move: int | None
) -> _Total:
    """Let a gateway have load; afterwards, let its ledger of number `move` move its lines."""
    cpu, requests = gateway.process.cpu_seconds(), gateway.engine.fetch_counts()["requests"]
    load.send_signal(signal.SIGCONT)
    pause(seconds)
    load.send_signal(signal.SIGSTOP)
    wait_until_quiet([gateway])
    if move is not None:
        gateway.process.send_signal(signal.SIGRTMIN + move)
        wait_until_quiet([gateway])
    return _Total(
        gateway.process.cpu_seconds() - cpu,
        gateway.engine.fetch_counts()["requests"] - requests,
    )


def _kill(load: "subprocess.Popen[str]") -> None:
    load.kill()
    load.communicate()
