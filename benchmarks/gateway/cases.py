"""The cases: functions that measure one running gateway once and return named values."""

import time
from collections.abc import Callable

from benchmarks.gateway.http_client import StandIn, Target
from benchmarks.gateway.prompts import Bodies
from benchmarks.gateway.request_load import OpenLoop, measure_alternating
from benchmarks.gateway.results import Sample, percentile
from benchmarks.gateway.stack import RunningGateway
from benchmarks.gateway.stream_load import StreamReaders
from benchmarks.gateway.wrk import run_wrk

Measure = Callable[[RunningGateway, Bodies, float], Sample]

_SATURATION_CONNECTIONS = 32
_OPEN_LOOP_CONNECTIONS = 64
_IDLE_CONNECTIONS = 2_000
_STREAMS = 256
_STREAM_GAP_MS = 10
_UNLIMITED_TOKENS = 100_000


class CaseFailed(Exception):
    """The gateway did not respond as the case requires."""


def saturate(
    choose_body: Callable[[Bodies], bytes],
    *,
    rejected: bool = False,
    connections: int = _SATURATION_CONNECTIONS,
) -> Measure:
    """Return a case that sends requests over all connections as fast as responses arrive.

    With `rejected`, the gateway has to reject the requests without forwarding them.
    """

    def measure(gateway: RunningGateway, bodies: Bodies, seconds: float) -> Sample:
        template = gateway.folder / "body.json"
        template.write_bytes(choose_body(bodies))
        gateway.engine.set_script()
        forwarded = gateway.engine.fetch_counts()["requests"]
        cpu = gateway.process.cpu_seconds()
        result = run_wrk(
            f"http://127.0.0.1:{gateway.target.port}/v1/chat/completions",
            template,
            seconds=seconds,
            connections=connections,
            headers=gateway.target.headers,
        )
        cpu = gateway.process.cpu_seconds() - cpu
        forwarded = gateway.engine.fetch_counts()["requests"] - forwarded
        errors = result.error_responses + result.socket_errors
        if not result.requests:
            raise CaseFailed("no response in time")
        if rejected and forwarded > result.requests / 100:
            raise CaseFailed("forwarded")
        if not rejected and errors > result.requests / 1000:
            raise CaseFailed(
                f"{result.error_responses} error responses, {result.socket_errors} socket errors"
            )
        return {
            # Per CPU second, which is the rate of a full core even if wrk could not fill it.
            "rate": result.requests / max(cpu, 0.01),
            "cpu_us": cpu / result.requests * 1e6,
            "busy": cpu / result.seconds,
        }

    return measure


def measure_chat(gateway: RunningGateway, bodies: Bodies, seconds: float) -> Sample:
    """Measure the rate of short chat requests, and store it as the gateway's capacity."""
    sample = saturate(lambda bodies: bodies.short)(gateway, bodies, seconds)
    gateway.capacity = sample["rate"]
    return sample


def measure_paced_streams(gateway: RunningGateway, bodies: Bodies, seconds: float) -> Sample:
    """Measure CPU per chunk of 256 streams with a chunk every 10 ms, and their cancellation."""
    gateway.engine.set_script(tokens=_UNLIMITED_TOKENS, gap_ms=_STREAM_GAP_MS)
    aborted = gateway.engine.fetch_counts()["aborted"]
    streams = StreamReaders()
    try:
        streams.open(gateway.target, bodies.streamed, _STREAMS, seconds=1)
        streams.read(0.5)
        cpu, events, began = gateway.process.cpu_seconds(), streams.events, time.perf_counter()
        sent = gateway.engine.fetch_counts()["chunks"]
        streams.read(seconds)
        sent = gateway.engine.fetch_counts()["chunks"] - sent
        elapsed = time.perf_counter() - began
        cpu, events = gateway.process.cpu_seconds() - cpu, streams.events - events
    finally:
        streams.close()
    if events == 0:
        raise CaseFailed("no chunk arrived")
    cancelled = _count_aborted(gateway.engine, aborted + _STREAMS) - aborted
    gateway.engine.set_script()
    return {
        "cpu_us": cpu / events * 1e6,
        "busy": cpu / elapsed,
        "relayed": events / max(sent, 1),
        "cancelled": cancelled / _STREAMS,
    }


def _count_aborted(engine: StandIn, expected: int) -> int:
    """Poll the count of aborted responses until it is as expected, for at most a second."""
    end = time.monotonic() + 1
    while (aborted := int(engine.fetch_counts()["aborted"])) < expected and time.monotonic() < end:
        pass
    return aborted


def measure_latency_alone(gateway: RunningGateway, bodies: Bodies, seconds: float) -> Sample:
    """Measure the latency added for one client."""
    gateway.engine.set_script()
    engine = Target(gateway.engine.port, {})
    through, direct = measure_alternating(gateway.target, engine, bodies.short, seconds)
    return _subtract_percentiles(through, direct)


def measure_latency_at_half(gateway: RunningGateway, bodies: Bodies, seconds: float) -> Sample:
    """Measure the latency added at half of the gateway's capacity."""
    gateway.engine.set_script()
    rate = _require_capacity(gateway) / 2
    cpu = gateway.process.cpu_seconds()
    through = _run_open_loop(gateway.target, bodies.short, rate, seconds)
    busy = (gateway.process.cpu_seconds() - cpu) / seconds
    direct = _run_open_loop(Target(gateway.engine.port, {}), bodies.short, rate, seconds)
    return {**_subtract_percentiles(through, direct), "rate": rate, "busy": busy}


def _require_capacity(gateway: RunningGateway) -> float:
    if not gateway.capacity:
        raise CaseFailed("capacity unknown: the case 'chat' has not succeeded")
    return gateway.capacity


def _subtract_percentiles(through: list[float], direct: list[float]) -> Sample:
    return {f"p{p}_us": (percentile(through, p) - percentile(direct, p)) * 1e6 for p in (50, 99)}


def _run_open_loop(target: Target, template: bytes, rate: float, seconds: float) -> list[float]:
    load = OpenLoop(target, template, _OPEN_LOOP_CONNECTIONS)
    try:
        load.run(min(rate, 500), 0.3)
        load.result.seconds.clear()
        load.run(rate, seconds)
    finally:
        load.close()
    return _require_complete(load)


def _require_complete(load: OpenLoop) -> list[float]:
    result = load.result
    if result.failed or result.unanswered:
        raise CaseFailed(f"{result.failed} failed, {result.unanswered} without response")
    return result.seconds


def measure_idle_connections(gateway: RunningGateway, bodies: Bodies, seconds: float) -> Sample:
    """Measure CPU, latency and memory with 2,000 connections that share few requests."""
    gateway.engine.set_script()
    rate = min(500, _require_capacity(gateway) / 4)
    resident = gateway.process.resident_bytes()
    load = OpenLoop(gateway.target, bodies.short, _IDLE_CONNECTIONS)
    try:
        load.run(rate, 0.5)
        load.result.seconds.clear()
        cpu = gateway.process.cpu_seconds()
        load.run(rate, seconds)
        cpu = gateway.process.cpu_seconds() - cpu
        growth = gateway.process.resident_bytes() - resident
    finally:
        load.close()
    latencies = _require_complete(load)
    return {
        "cpu_us": cpu / len(latencies) * 1e6,
        "p99_us": percentile(latencies, 99) * 1e6,
        "kib": growth / _IDLE_CONNECTIONS / 1024,
    }


CASES: dict[str, Measure] = {
    "chat": measure_chat,
    "chat-stream": saturate(lambda bodies: bodies.streamed),
    "prompt-1000": saturate(lambda bodies: bodies.long),
    "prompt-8000": saturate(lambda bodies: bodies.longest),
    "history": saturate(lambda bodies: bodies.history),
    "paced": measure_paced_streams,
    "latency-alone": measure_latency_alone,
    "latency-half": measure_latency_at_half,
    "idle": measure_idle_connections,
    "reject-body": saturate(lambda bodies: bodies.invalid, rejected=True),
    "reject-model": saturate(lambda bodies: bodies.unknown_model, rejected=True),
}
"""In order of measurement; `chat` is first, because other cases need the capacity."""
