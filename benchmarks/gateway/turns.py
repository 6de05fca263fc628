"""The CPU time of chat requests of several gateways, under load at the same time, in turns."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

from benchmarks.gateway.cases import CaseFailed
from benchmarks.gateway.processes import Process, pause
from benchmarks.gateway.prompts import Bodies
from benchmarks.gateway.results import Sample
from benchmarks.gateway.stack import RunningGateway
from benchmarks.gateway.wrk import read_result, start_wrk

_TURN_SECONDS_PER_CONNECTION: Final = 0.003
"""Length of a turn per connection, which is the time of 5 to 12 requests on each.

All connections of a suspended gateway come to wait for it, and it works on all of them in step when
it goes on. In turns shorter than a few requests per connection, nothing else would be measured.
"""
_FIRST_TURN_SECONDS: Final = 0.3
"""In its first turn, a gateway accepts connections one by one, as wrk opens them.

If they waited for it, it would work on all requests in step, which takes 10 % longer.
"""
_SLOWER: Final = 1.1
"""Turns take longer by the time of their system calls, and must end before wrk does."""


def measure_chat_in_turns(
    gateways: Mapping[str, RunningGateway], bodies: Bodies, seconds: float, connections: int
) -> dict[str, Sample]:
    """Measure the CPU time of a short chat request of each gateway, for `seconds` each.

    Each gateway is at saturation over `connections`, and all but one are suspended: they share a
    core in turns. The speed of a shared machine changes within seconds, and turns let each gateway
    have the same part of every speed. A turn is 96 ms for 32 connections and 768 ms for 256, and
    `seconds` are rounded to whole turns. Raises CaseFailed.
    """
    turn_seconds = connections * _TURN_SECONDS_PER_CONNECTION
    turns = max(round(seconds / turn_seconds), 1)
    each = _FIRST_TURN_SECONDS + turns * turn_seconds
    whole = math.ceil(each * len(gateways) * _SLOWER)
    processes = [gateway.process for gateway in gateways.values()]
    with ExitStack() as stack:
        for process in processes:
            process.suspend()
            stack.callback(process.resume)
        began = [process.cpu_seconds() for process in processes]
        loads = []
        for gateway in gateways.values():
            body = gateway.folder / "body.json"
            body.write_bytes(bodies.short)
            gateway.engine.set_script()
            load = start_wrk(
                f"http://127.0.0.1:{gateway.target.port}/v1/chat/completions",
                body,
                seconds=whole,
                connections=connections,
                headers=gateway.target.headers,
            )
            loads.append(stack.enter_context(load))
            take_turn(gateway.process, _FIRST_TURN_SECONDS)
        for _ in range(turns):
            for process in processes:
                take_turn(process, turn_seconds)
        results = [read_result(load, whole) for load in loads]
        # Before they resume: they would work on requests that nobody counts.
        cpu = [
            process.cpu_seconds() - start for process, start in zip(processes, began, strict=True)
        ]
    samples = {}
    for name, result, used in zip(gateways, results, cpu, strict=True):
        errors = result.error_responses + result.socket_errors
        if errors > result.requests / 1000 or not result.requests:
            raise CaseFailed(f"{name}: {errors} errors, {result.requests} requests")
        samples[name] = {"cpu_us": used / result.requests * 1e6, "rate": result.requests / used}
    return samples


def take_turn(process: Process, seconds: float) -> None:
    """Let a suspended gateway run for its turn."""
    process.resume()
    pause(seconds)
    process.suspend()
