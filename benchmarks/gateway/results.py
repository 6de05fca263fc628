"""Medians and ratios of samples, and the goals that they are compared with."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

Sample = dict[str, float]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass
class Results:
    """Samples by gateway and case, one per round; None for a failed round."""

    rounds: dict[tuple[str, str], list[Sample | None]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, gateway: str, case: str, sample: Sample) -> None:
        """Add the sample of a round."""
        self.rounds.setdefault((gateway, case), []).append(sample)

    def fail(self, gateway: str, case: str, reason: str) -> None:
        """Add a failed round; only the last reason is kept."""
        self.rounds.setdefault((gateway, case), []).append(None)
        self.failures[gateway, case] = reason

    def values(self, gateway: str, case: str, metric: str) -> list[float | None]:
        """Return a metric by round."""
        samples = self.rounds.get((gateway, case), [])
        return [None if sample is None else sample.get(metric) for sample in samples]

    def median(self, gateway: str, case: str, metric: str) -> float | None:
        """Return the median of the rounds that have the metric."""
        found = [value for value in self.values(gateway, case, metric) if value is not None]
        return statistics.median(found) if found else None

    def ratio(self, numerator: "Metric", denominator: "Metric") -> float | None:
        """Return the median of each round's ratio; a disturbed round affects both sides."""
        pairs = zip(self.values(*numerator), self.values(*denominator), strict=False)
        ratios = [one / two for one, two in pairs if one is not None and two]
        return statistics.median(ratios) if ratios else None


Metric = tuple[str, str, str]
"""Gateway, case, name."""


@dataclass(frozen=True)
class Goal:
    """A bound that a ratio has to keep (`required`), and the value aimed for (`desired`).

    Larger ratios are better if `desired` is larger than `required`.
    """

    title: str
    numerator: Metric
    denominator: Metric
    required: float
    desired: float

    def judge(self, ratio: float | None) -> str:
        """Return one of `not measured`, `reached`, `acceptable`, `missed`."""
        if ratio is None:
            return "not measured"
        sign = 1 if self.desired > self.required else -1
        if sign * ratio >= sign * self.desired:
            return "reached"
        return "acceptable" if sign * ratio >= sign * self.required else "missed"


GOALS = [
    Goal(
        "chat, requests/s relative to vllm-router",
        ("maxgate", "chat", "rate"), ("vllm-router", "chat", "rate"), 0.35, 0.60,
    ),
    Goal(
        "chat, requests/s relative to LiteLLM",
        ("maxgate", "chat", "rate"), ("litellm", "chat", "rate"), 60, 120,
    ),
    Goal(
        "CPU per relayed chunk relative to nginx",
        ("maxgate", "paced", "cpu_us"), ("nginx", "paced", "cpu_us"), 2.0, 1.5,
    ),
    Goal(
        "added latency at half of saturation, P99, relative to vllm-router",
        ("maxgate", "latency-half", "p99_us"), ("vllm-router", "latency-half", "p99_us"), 2.0, 1.2,
    ),
    Goal(
        "CPU of a 1,000-token prompt with a repeated history, relative to a 32-token prompt",
        ("maxgate", "history", "cpu_us"), ("maxgate", "chat", "cpu_us"), 3.0, 2.0,
    ),
    Goal(
        "invalid body rejected, requests/s relative to chat",
        ("maxgate", "reject-body", "rate"), ("maxgate", "chat", "rate"), 1.5, 3.0,
    ),
    Goal(
        "unknown model rejected, requests/s relative to chat",
        ("maxgate", "reject-model", "rate"), ("maxgate", "chat", "rate"), 1.5, 3.0,
    ),
]  # fmt: skip
"""The goals of issue 4."""
