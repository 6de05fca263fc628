"""What is measured, as data, and how one gateway is measured in one case."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway import paired, prompts, wrk
from benchmarks.gateway.http_client import StandIn, Target
from benchmarks.gateway.open_loop import OpenLoop
from benchmarks.gateway.processes import Process
from benchmarks.gateway.results import percentile
from benchmarks.gateway.streams import Streams

Sample = dict[str, float]
_CONNECTIONS = 32
_STREAMS, _GAP_MS, _MANY_TOKENS = 256, 10, 100_000
_IDLE_CONNECTIONS = 2_000


class Failed(Exception):
    """A gateway did not do what the case asks of it."""


@dataclass
class Subject:
    """A running gateway, and what the cases need to know of it."""

    process: Process
    target: Target
    engine: StandIn
    folder: Path
    # Requests a second at saturation, once the first case has found it.
    capacity: float = 0


@dataclass(frozen=True)
class Bodies:
    """The templates of all cases."""

    short: bytes
    streamed: bytes
    long: bytes
    longest: bytes
    history: bytes
    bad: bytes
    unknown: bytes

    @classmethod
    def make(cls, count: prompts.CountTokens) -> "Bodies":
        """With the model's own idea of a token."""
        return cls(
            short=prompts.fresh(32, count),
            streamed=prompts.fresh(32, count, stream=True),
            long=prompts.fresh(1_000, count),
            longest=prompts.fresh(8_000, count),
            history=prompts.history(1_000, 10, count),
            bad=prompts.fresh(32, count, temperature="hot"),
            unknown=prompts.fresh(32, count, model="no-such-model"),
        )


Measure = Callable[[Subject, Bodies, float], Sample]


def saturate(body: Callable[[Bodies], bytes], *, rejected: bool = False) -> Measure:
    """As many requests as 32 connections get answered."""

    def measure(subject: Subject, bodies: Bodies, seconds: float) -> Sample:
        template = subject.folder / "body.json"
        template.write_bytes(body(bodies))
        subject.engine.follow()
        asked, cpu = subject.engine.counts()["requests"], subject.process.cpu_seconds()
        result = wrk.run(
            f"http://127.0.0.1:{subject.target.port}/v1/chat/completions",
            template,
            seconds=seconds,
            connections=_CONNECTIONS,
            headers=subject.target.headers,
        )
        cpu = subject.process.cpu_seconds() - cpu
        passed_on = subject.engine.counts()["requests"] - asked
        if rejected and passed_on > result.requests / 100:
            raise Failed("passes it on")
        if not rejected and result.refused + result.broken > result.requests / 1000:
            raise Failed(f"{result.refused} refused, {result.broken} broken")
        return {
            # On a whole core, also where the load source could not fill it.
            "rate": result.requests / max(cpu, 0.01),
            "cpu_us": cpu / max(result.requests, 1) * 1e6,
            "busy": cpu / result.seconds,
        }

    return measure


def chat(subject: Subject, bodies: Bodies, seconds: float) -> Sample:
    """The case whose rate others start from."""
    sample = saturate(lambda bodies: bodies.short)(subject, bodies, seconds)
    subject.capacity = sample["rate"] * min(1.0, sample["busy"])
    return sample


def paced(subject: Subject, bodies: Bodies, seconds: float) -> Sample:
    """CPU for every chunk that 256 streams bring, 10 ms apart."""
    subject.engine.follow(tokens=_MANY_TOKENS, gap_ms=_GAP_MS)
    aborted = subject.engine.counts()["aborted"]
    streams = Streams()
    try:
        streams.open(subject.target, bodies.streamed, _STREAMS, seconds=1)
        streams.read(0.5)
        cpu, events, began = subject.process.cpu_seconds(), streams.events, time.perf_counter()
        sent = subject.engine.counts()["chunks"]
        streams.read(seconds)
        sent = subject.engine.counts()["chunks"] - sent
        took = time.perf_counter() - began
        cpu, events = subject.process.cpu_seconds() - cpu, streams.events - events
    finally:
        streams.close()
    if events == 0:
        raise Failed("no chunk arrived")
    cancelled = _cancelled(subject.engine, aborted + _STREAMS)
    return {
        "cpu_us": cpu / events * 1e6,
        "busy": cpu / took,
        "relayed": events / max(sent, 1),
        "cancelled": (cancelled - aborted) / _STREAMS,
    }


def _cancelled(engine: StandIn, expected: int) -> int:
    # A second is long: the connections have been closed already.
    end = time.monotonic() + 1
    while (aborted := int(engine.counts()["aborted"])) < expected and time.monotonic() < end:
        pass
    return aborted


def latency_alone(subject: Subject, bodies: Bodies, seconds: float) -> Sample:
    """What is added for one client."""
    subject.engine.follow()
    engine = Target(subject.engine.port, {})
    through, around = paired.through_and_around(subject.target, engine, bodies.short, seconds)
    return _added(through, around)


def latency_at_half(subject: Subject, bodies: Bodies, seconds: float) -> Sample:
    """What is added when half of what the gateway can do is asked of it."""
    subject.engine.follow()
    rate = subject.capacity / 2
    if not rate:
        raise Failed("its capacity is not known")
    cpu = subject.process.cpu_seconds()
    through = _open_loop(subject.target, bodies.short, rate, seconds)
    busy = (subject.process.cpu_seconds() - cpu) / seconds
    around = _open_loop(Target(subject.engine.port, {}), bodies.short, rate, seconds)
    return {**_added(through, around), "rate": rate, "busy": busy}


def _open_loop(target: Target, template: bytes, rate: float, seconds: float) -> list[float]:
    load = OpenLoop(target, template, connections=64)
    try:
        load.run(min(rate, 500), 0.3)
        load.result.seconds.clear()
        result = load.run(rate, seconds)
    finally:
        load.close()
    if result.failed or result.unanswered:
        raise Failed(f"{result.failed} failed, {result.unanswered} not answered")
    return result.seconds


def _added(through: list[float], around: list[float]) -> Sample:
    return {f"p{p}_us": (percentile(through, p) - percentile(around, p)) * 1e6 for p in (50, 99)}


def mostly_idle(subject: Subject, bodies: Bodies, seconds: float) -> Sample:
    """2,000 connections that now and then have a request."""
    subject.engine.follow()
    rate = min(500, subject.capacity / 4)
    resident = subject.process.resident_bytes()
    load = OpenLoop(subject.target, bodies.short, _IDLE_CONNECTIONS)
    try:
        load.run(rate, 0.5)
        load.result.seconds.clear()
        cpu = subject.process.cpu_seconds()
        result = load.run(rate, seconds)
        cpu = subject.process.cpu_seconds() - cpu
        grown = subject.process.resident_bytes() - resident
    finally:
        load.close()
    if result.failed or result.unanswered:
        raise Failed(f"{result.failed} failed, {result.unanswered} not answered")
    return {
        "cpu_us": cpu / len(result.seconds) * 1e6,
        "p99_us": percentile(result.seconds, 99) * 1e6,
        "kib": grown / _IDLE_CONNECTIONS / 1024,
    }


CASES: dict[str, Measure] = {
    "chat": chat,
    "chat-stream": saturate(lambda bodies: bodies.streamed),
    "prompt-1000": saturate(lambda bodies: bodies.long),
    "prompt-8000": saturate(lambda bodies: bodies.longest),
    "history": saturate(lambda bodies: bodies.history),
    "paced": paced,
    "latency-alone": latency_alone,
    "latency-half": latency_at_half,
    "idle": mostly_idle,
    "reject-body": saturate(lambda bodies: bodies.bad, rejected=True),
    "reject-model": saturate(lambda bodies: bodies.unknown, rejected=True),
}
"""In the order of measuring; `chat` first, because others need the capacity that it finds."""
