"""What can make it slow, and the numbers that give it away.

In the order of CAUSES, from the engine outward: what is deepest explains what lies above it. A GPU
that swaps requests in and out also has a queue, and a queue in MAX also makes the gateway slow;
naming the queue or the gateway would be naming a symptom.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from maxgate.monitor.catalogue import show
from maxgate.monitor.history import History
from maxgate.monitor.metrics import Numbers


@dataclass(frozen=True, slots=True)
class Evidence:
    """A number, its value, and what it usually is where that is known."""

    number: str
    value: float
    usual: float | None = None

    def __str__(self) -> str:
        usual = "" if self.usual is None else f", usually {show(self.number, self.usual)}"
        return f"{self.number} {show(self.number, self.value)}{usual}"


@dataclass(frozen=True, slots=True)
class Cause:
    """What slows requests down, what can be done, and what it is concluded from."""

    name: str
    advice: str
    evidence: tuple[Evidence, ...]


class Facts:
    """The numbers of one time, with a way to quote them."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._now: Numbers = history.numbers

    def get(self, name: str, default: float = 0.0) -> float:
        """A number; the default where it is not known."""
        return self._now.get(name, default)

    def knows(self, *names: str) -> bool:
        """Whether all of these are known."""
        return all(name in self._now for name in names)

    def growth(self, name: str) -> float:
        """How many times the usual value it has; 1 where that is not known."""
        usual = self._history.usual(name)
        return self._now[name] / usual if usual and name in self._now else 1.0

    def quote(self, *names: str, usual: bool = False) -> tuple[Evidence, ...]:
        """Those of these numbers that are known, as evidence."""
        return tuple(
            Evidence(name, self._now[name], self._history.usual(name) if usual else None)
            for name in names
            if name in self._now
        )


SLOWER: Final = 1.5
"""Half as much again as usual."""


def _no_gateway(facts: Facts) -> Cause | None:
    if facts.get("gateway.up"):
        return None
    advice = "see whether its process runs, and what its log ends with"
    return Cause("the gateway cannot be read", advice, facts.quote("gateway.up"))


def _no_engine(facts: Facts) -> Cause | None:
    if not facts.knows("engines.healthy") or facts.get("engines.healthy"):
        return None
    advice = "see whether MAX runs and has compiled its model; its log says"
    return Cause("no engine can be asked", advice, facts.quote("engines.healthy", "engines.known"))


def _gpu_slowed(facts: Facts) -> Cause | None:
    if not facts.get("gpu.slowed"):
        return None
    advice = "cool the machine or raise the power limit; clocks are held down"
    quoted = facts.quote("gpu.slowed", "gpu.temperature", "gpu.power", "gpu.utilisation")
    return Cause("the GPU is slowed down by heat or power", advice, quoted)


def _kv_thrashing(facts: Facts) -> Cause | None:
    if not facts.get("max.preemptions"):
        return None
    advice = (
        "MAX computes evicted requests again: lower --max-batch-size or --max-length, or give the "
        "KV cache more memory (--device-memory-utilization)"
    )
    quoted = facts.quote("max.preemptions", "max.kv_used", "max.running", "max.queued")
    return Cause("KV cache thrashing", advice, quoted)


def _kv_full(facts: Facts) -> Cause | None:
    if facts.get("max.kv_used") < 0.95 or facts.get("max.preemptions") or _waiting(facts) < 1:
        return None
    advice = "requests wait for KV cache: give it more memory, or lower --max-length"
    return Cause("KV cache full", advice, facts.quote("max.kv_used", "max.queued", "max.running"))


def _queue(facts: Facts) -> Cause | None:
    if _waiting(facts) < 1 or facts.get("max.preemptions") or facts.get("max.kv_used") >= 0.95:
        return None
    quoted = facts.quote(
        "max.queued", "max.awaiting_admission", "max.running", "gpu.utilisation", "host.cpu"
    )
    if facts.get("gpu.utilisation") >= 0.9:
        advice = "the GPU has no time left: add a replica (another --engine-url), or send less"
        return Cause("waiting in MAX's queue, GPU saturated", advice, quoted)
    if not facts.knows("gpu.utilisation") and facts.get("host.cpu") >= 0.85:
        advice = "MAX runs on the CPU, and this machine has none left: more cores, a GPU, or less"
        return Cause("waiting in MAX's queue, processor saturated", advice, quoted)
    advice = "the batch is full while the device has time left: raise --max-batch-size"
    return Cause("waiting in MAX's queue, batch limit reached", advice, quoted)


def _processor_full(facts: Facts) -> Cause | None:
    if facts.knows("gpu.utilisation") or facts.get("host.cpu") < 0.95:
        return None
    if facts.get("max.running") < 2 or _waiting(facts) >= 1:
        return None
    advice = "answers that run at once share it: more cores, a GPU, or fewer at once"
    quoted = facts.quote("host.cpu", "max.running", "max.tpot_p50")
    return Cause("MAX has the processor full", advice, quoted)


def _waiting(facts: Facts) -> float:
    return facts.get("max.queued") + facts.get("max.awaiting_admission")


def _unread_answers(facts: Facts) -> Cause | None:
    buffered = facts.get("max.responses_buffered")
    if buffered < 1 or buffered < facts.get("max.running"):
        return None
    advice = (
        "MAX generates faster than its API process sends: fewer tokens per request, or replicas"
    )
    quoted = facts.quote("max.responses_buffered", "max.running", "max.output_tokens")
    return Cause("answers pile up in MAX's API process", advice, quoted)


def _gateway_processor(facts: Facts) -> Cause | None:
    if facts.get("gateway.cpu_per_worker") < 0.85:
        return None
    advice = "every worker has its core full: start the gateway with more --workers"
    quoted = facts.quote(
        "gateway.cpu_per_worker", "gateway.cpu_cores", "gateway.requests", "gateway.output_tokens"
    )
    return Cause("the gateway's processor is saturated", advice, quoted)


def _lost_before_the_engine(facts: Facts) -> Cause | None:
    # Means: MAX's buckets are half as wide as their bound, sums are exact. With few answers the
    # two count different ones, as MAX counts at the first token and the gateway at the last.
    if not facts.knows("gateway.ttft_mean", "max.ttft_mean") or facts.get("gateway.answers") < 20:
        return None
    lost = facts.get("gateway.ttft_mean") - facts.get("max.ttft_mean")
    if lost < max(0.1, facts.get("max.ttft_mean")) or _waiting(facts) >= 1:
        return None
    advice = "the time is lost between gateway and MAX: the network, or the gateway's own queue"
    quoted = facts.quote("gateway.ttft_mean", "max.ttft_mean", "gateway.cpu_per_worker")
    return Cause("first tokens are late before MAX has the request", advice, quoted)


def _machine_full(facts: Facts) -> Cause | None:
    if facts.get("host.memory") < 0.95 and facts.get("container.throttled") < 0.1:
        return None
    advice = "give the machine or the container more, or run less beside it"
    quoted = facts.quote(
        "host.memory", "container.memory", "container.throttled", "container.cpu_cores"
    )
    return Cause("memory or processor of the machine is at its limit", advice, quoted)


def _longer_prompts(facts: Facts) -> Cause | None:
    if facts.growth("gateway.prompt_tokens_each") < SLOWER:
        return None
    advice = (
        "more has to be read before the first token: shorten prompts, or share their beginnings"
    )
    quoted = facts.quote("gateway.prompt_tokens_each", "max.cache_hits", usual=True)
    return Cause("prompts have become longer", advice, quoted)


def _colder_cache(facts: Facts) -> Cause | None:
    if facts.growth("max.cache_hits") > 1 / SLOWER:
        return None
    advice = "prompts share less of their beginning than before: what changes belongs at their end"
    quoted = facts.quote("max.cache_hits", "max.step_prefill", usual=True)
    return Cause("MAX finds less of the prompts in its cache", advice, quoted)


def _longer_answers(facts: Facts) -> Cause | None:
    if facts.growth("gateway.output_tokens_each") < SLOWER:
        return None
    advice = "answers take longer because they are longer: limit max_tokens where that is too much"
    quoted = facts.quote("gateway.output_tokens_each", "gateway.tpot_p50", usual=True)
    return Cause("answers have become longer", advice, quoted)


CAUSES: Final[Sequence[Callable[[Facts], Cause | None]]] = (
    _no_gateway,
    _no_engine,
    _gpu_slowed,
    _kv_thrashing,
    _kv_full,
    _queue,
    _processor_full,
    _unread_answers,
    _gateway_processor,
    _lost_before_the_engine,
    _machine_full,
    _longer_prompts,
    _colder_cache,
    _longer_answers,
)


_SYMPTOMS: Final = ("gateway.ttft_p95", "gateway.latency_p95", "gateway.tpot_p95")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`slower` are the numbers that are half as high again as usual; causes, deepest first.

    Causes without anything slower are pressure that is not felt yet.
    """

    slower: tuple[Evidence, ...]
    causes: tuple[Cause, ...]


def diagnose(history: History) -> Diagnosis:
    """What the history says now."""
    facts = Facts(history)
    slower = [
        evidence
        for name in _SYMPTOMS
        if facts.growth(name) >= SLOWER
        for evidence in facts.quote(name, usual=True)
    ]
    causes = (cause(facts) for cause in CAUSES)
    return Diagnosis(tuple(slower), tuple(cause for cause in causes if cause is not None))
