"""As much as a gateway can do: rates, and the CPU that each request takes."""

from collections.abc import Callable

from benchmarks.gateway import wrk
from benchmarks.gateway.results import Sample
from benchmarks.gateway.subject import Bodies, Failed, Subject

_CONNECTIONS = 32
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
        if not result.requests:
            raise Failed("nothing answered in time")
        if rejected and passed_on > result.requests / 100:
            raise Failed("passes it on")
        if not rejected and result.refused + result.broken > result.requests / 1000:
            raise Failed(f"{result.refused} refused, {result.broken} broken")
        return {
            # On a whole core, also where the load source could not fill it.
            "rate": result.requests / max(cpu, 0.01),
            "cpu_us": cpu / result.requests * 1e6,
            "busy": cpu / result.seconds,
        }

    return measure


def chat(subject: Subject, bodies: Bodies, seconds: float) -> Sample:
    """The case whose rate others start from."""
    sample = saturate(lambda bodies: bodies.short)(subject, bodies, seconds)
    subject.capacity = sample["rate"]
    return sample
