"""What a gateway adds to the time of a request, and what idle connections cost."""

from benchmarks.gateway import paired
from benchmarks.gateway.http_client import Target
from benchmarks.gateway.open_loop import OpenLoop
from benchmarks.gateway.results import Sample, percentile
from benchmarks.gateway.subject import Bodies, Failed, Subject

_IDLE_CONNECTIONS = 2_000


def latency_alone(subject: Subject, bodies: Bodies, seconds: float) -> Sample:
    """What is added for one client."""
    subject.engine.follow()
    engine = Target(subject.engine.port, {})
    through, around = paired.through_and_around(subject.target, engine, bodies.short, seconds)
    return _added(through, around)


def latency_at_half(subject: Subject, bodies: Bodies, seconds: float) -> Sample:
    """What is added when half of what the gateway can do is asked of it."""
    subject.engine.follow()
    rate = subject.rate(1 / 2)
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
    rate = min(500, subject.rate(1 / 4))
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
