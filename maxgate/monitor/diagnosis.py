"""Finds the causes of slowness and the metrics that show them.

Checks run in the order of CAUSES, from the engine outward, because deeper causes explain shallower
ones: an engine that evicts requests also has a queue, and a queue in MAX also slows the gateway
down. Naming the queue or the gateway would name a symptom.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from maxgate.monitor.catalogue import format_value
from maxgate.monitor.history import History
from maxgate.monitor.metrics import Metrics

SLOWDOWN_RATIO: Final = 1.5
"""A metric counts as slower, or longer, from this ratio to its usual value on."""

_LATENCIES: Final = ("gateway.ttft_p95", "gateway.latency_p95", "gateway.tpot_p95")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A metric with its current value and, if relevant and known, its usual value."""

    metric: str
    value: float
    usual: float | None = None

    def __str__(self) -> str:
        usual = "" if self.usual is None else f", usually {format_value(self.metric, self.usual)}"
        return f"{self.metric} {format_value(self.metric, self.value)}{usual}"


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause of slowness, the advice against it, and its evidence."""

    name: str
    advice: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Latencies slower than usual, and causes, deepest first.

    If nothing is slower yet, the causes are early pressure.
    """

    slower: tuple[Evidence, ...]
    causes: tuple[Cause, ...]


def diagnose(history: History) -> Diagnosis:
    """Diagnose the current metrics."""
    metrics = MetricsView(history)
    slower = [
        evidence
        for name in _LATENCIES
        if metrics.growth(name) >= SLOWDOWN_RATIO
        for evidence in metrics.evidence(name, usual=True)
    ]
    causes = (check(metrics) for check in CAUSES)
    return Diagnosis(tuple(slower), tuple(cause for cause in causes if cause is not None))


class MetricsView:
    """The current metrics of a history, compared with their usual values."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._metrics: Metrics = history.metrics

    def get(self, name: str, default: float = 0.0) -> float:
        """The value of a metric, or the default if it is unknown."""
        return self._metrics.get(name, default)

    def has(self, *names: str) -> bool:
        """Whether all of these metrics are known."""
        return all(name in self._metrics for name in names)

    @property
    def waiting(self) -> float:
        """Requests in MAX that are not running."""
        return self.get("max.queued") + self.get("max.awaiting_admission")

    def growth(self, name: str) -> float:
        """The ratio of a metric to its usual value; 1 if either is unknown."""
        usual = self._history.usual_value(name)
        return self._metrics[name] / usual if usual and name in self._metrics else 1.0

    def evidence(self, *names: str, usual: bool = False) -> tuple[Evidence, ...]:
        """Quote the known ones of these metrics, on request with their usual values."""
        return tuple(
            Evidence(name, self._metrics[name], self._history.usual_value(name) if usual else None)
            for name in names
            if name in self._metrics
        )


def _gateway_down(metrics: MetricsView) -> Cause | None:
    if metrics.get("gateway.up"):
        return None
    advice = (
        "check that --url is the gateway's and not an engine's, that the key is right, and that "
        "the gateway runs; the end of its log says why it stopped"
    )
    return Cause("gateway unreachable", advice, metrics.evidence("gateway.up"))


def _no_healthy_engine(metrics: MetricsView) -> Cause | None:
    if not metrics.has("engines.healthy") or metrics.get("engines.healthy"):
        return None
    advice = "check in MAX's log that it runs and has compiled its model, or undrain an engine"
    return Cause("no healthy engine", advice, metrics.evidence("engines.healthy", "engines.known"))


def _gpu_throttled(metrics: MetricsView) -> Cause | None:
    if not metrics.get("gpu.slowed"):
        return None
    advice = "improve the cooling, or raise the power limit"
    evidence = metrics.evidence("gpu.slowed", "gpu.temperature", "gpu.power", "gpu.utilisation")
    return Cause("GPU throttled by heat or power", advice, evidence)


def _kv_cache_thrashing(metrics: MetricsView) -> Cause | None:
    if not metrics.get("max.preemptions"):
        return None
    advice = (
        "MAX recomputes evicted requests: lower --max-batch-size or --max-length, or give the "
        "KV cache more memory (--device-memory-utilization)"
    )
    evidence = metrics.evidence("max.preemptions", "max.kv_used", "max.running", "max.queued")
    return Cause("KV cache thrashing", advice, evidence)


def _kv_cache_full(metrics: MetricsView) -> Cause | None:
    if metrics.get("max.kv_used") < 0.95 or metrics.get("max.preemptions") or metrics.waiting < 1:
        return None
    advice = "requests wait for KV cache: give it more memory, or lower --max-length"
    evidence = metrics.evidence("max.kv_used", "max.queued", "max.running")
    return Cause("KV cache full", advice, evidence)


def _queue_in_max(metrics: MetricsView) -> Cause | None:
    if metrics.waiting < 1 or metrics.get("max.preemptions") or metrics.get("max.kv_used") >= 0.95:
        return None
    evidence = metrics.evidence(
        "max.queued", "max.awaiting_admission", "max.running", "gpu.utilisation", "host.cpu"
    )
    if metrics.get("gpu.utilisation") >= 0.9:
        advice = "add a replica (another --engine-url), or send fewer requests"
        return Cause("queue in MAX, GPU saturated", advice, evidence)
    if not metrics.has("gpu.utilisation") and metrics.get("host.cpu") >= 0.85:
        advice = "MAX runs on the CPU: add cores or a GPU, or send fewer requests"
        return Cause("queue in MAX, CPU saturated", advice, evidence)
    advice = "the device has spare capacity: raise --max-batch-size"
    return Cause("queue in MAX, batch limit reached", advice, evidence)


def _cpu_saturated(metrics: MetricsView) -> Cause | None:
    if metrics.has("gpu.utilisation") or metrics.get("host.cpu") < 0.95:
        return None
    if metrics.get("max.running") < 2 or metrics.waiting >= 1:
        return None
    advice = "concurrent requests share the CPU: add cores or a GPU, or lower the concurrency"
    evidence = metrics.evidence("host.cpu", "max.running", "max.tpot_p50")
    return Cause("MAX saturates the CPU", advice, evidence)


def _responses_buffered(metrics: MetricsView) -> Cause | None:
    buffered = metrics.get("max.responses_buffered")
    if buffered < 1 or buffered < metrics.get("max.running"):
        return None
    advice = "MAX generates faster than its API process sends: lower max_tokens, or add replicas"
    evidence = metrics.evidence("max.responses_buffered", "max.running", "max.output_tokens")
    return Cause("responses accumulate in MAX's API process", advice, evidence)


def _gateway_cpu_saturated(metrics: MetricsView) -> Cause | None:
    if metrics.get("gateway.cpu_per_worker") < 0.85:
        return None
    advice = "every worker saturates its core: start the gateway with more --workers"
    evidence = metrics.evidence(
        "gateway.cpu_per_worker", "gateway.cpu_cores", "gateway.requests", "gateway.output_tokens"
    )
    return Cause("gateway CPU saturated", advice, evidence)


def _delay_before_max(metrics: MetricsView) -> Cause | None:
    # Compare means: they are exact, but MAX's buckets are half as wide as their upper bound. With
    # few responses the means cover different requests, because MAX counts a request at its first
    # token and the gateway at its last.
    if not metrics.has("gateway.ttft_mean", "max.ttft_mean"):
        return None
    delay = metrics.get("gateway.ttft_mean") - metrics.get("max.ttft_mean")
    if metrics.get("gateway.answers") < 20 or metrics.waiting >= 1:
        return None
    if delay < max(0.1, metrics.get("max.ttft_mean")):
        return None
    advice = "check the network between gateway and MAX, and the gateway's CPU"
    evidence = metrics.evidence("gateway.ttft_mean", "max.ttft_mean", "gateway.cpu_per_worker")
    return Cause("first tokens are delayed before requests reach MAX", advice, evidence)


def _host_saturated(metrics: MetricsView) -> Cause | None:
    if metrics.get("host.memory") < 0.95 and metrics.get("container.throttled") < 0.1:
        return None
    advice = "add memory or CPU to the host or the container, or stop other programs"
    evidence = metrics.evidence(
        "host.memory", "container.memory", "container.throttled", "container.cpu_cores"
    )
    return Cause("host memory or container CPU at its limit", advice, evidence)


def _longer_prompts(metrics: MetricsView) -> Cause | None:
    if metrics.growth("gateway.prompt_tokens_each") < SLOWDOWN_RATIO:
        return None
    advice = "longer prompts delay the first token: shorten them, or share prefixes"
    evidence = metrics.evidence("gateway.prompt_tokens_each", "max.cache_hits", usual=True)
    return Cause("prompts are longer than usual", advice, evidence)


def _lower_cache_hit_rate(metrics: MetricsView) -> Cause | None:
    if metrics.growth("max.cache_hits") > 1 / SLOWDOWN_RATIO:
        return None
    advice = "prompts share shorter prefixes than before: move the varying parts to the end"
    evidence = metrics.evidence("max.cache_hits", "max.step_prefill", usual=True)
    return Cause("prefix cache hit rate is lower than usual", advice, evidence)


def _longer_responses(metrics: MetricsView) -> Cause | None:
    if metrics.growth("gateway.output_tokens_each") < SLOWDOWN_RATIO:
        return None
    advice = "longer responses take longer: lower max_tokens if they are too long"
    evidence = metrics.evidence("gateway.output_tokens_each", "gateway.tpot_p50", usual=True)
    return Cause("responses are longer than usual", advice, evidence)


CAUSES: Final[Sequence[Callable[[MetricsView], Cause | None]]] = (
    _gateway_down,
    _no_healthy_engine,
    _gpu_throttled,
    _kv_cache_thrashing,
    _kv_cache_full,
    _queue_in_max,
    _cpu_saturated,
    _responses_buffered,
    _gateway_cpu_saturated,
    _delay_before_max,
    _host_saturated,
    _longer_prompts,
    _lower_cache_hit_rate,
    _longer_responses,
)
