"""From samples to medians, ratios and the verdict on the aims."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

Sample = dict[str, float]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of all stay at or below, by nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass
class Results:
    """Samples by gateway and case, one per round; None for a round without one."""

    rounds: dict[tuple[str, str], list[Sample | None]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, gateway: str, case: str, sample: Sample) -> None:
        """One more round."""
        self.rounds.setdefault((gateway, case), []).append(sample)

    def fail(self, gateway: str, case: str, reason: str) -> None:
        """A round without a sample; the last reason is kept."""
        self.rounds.setdefault((gateway, case), []).append(None)
        self.failures[gateway, case] = reason

    def values(self, gateway: str, case: str, metric: str) -> list[float | None]:
        """One metric, by round."""
        samples = self.rounds.get((gateway, case), [])
        return [None if sample is None else sample.get(metric) for sample in samples]

    def median(self, gateway: str, case: str, metric: str) -> float | None:
        """Of all rounds that have it."""
        found = [value for value in self.values(gateway, case, metric) if value is not None]
        return statistics.median(found) if found else None

    def ratio(self, above: "Number", below: "Number") -> float | None:
        """The median of the rounds' ratios: what disturbs a round disturbs both."""
        pairs = zip(self.values(*above), self.values(*below), strict=False)
        ratios = [one / two for one, two in pairs if one is not None and two]
        return statistics.median(ratios) if ratios else None


Number = tuple[str, str, str]
"""Gateway, case, metric."""


@dataclass(frozen=True)
class Aim:
    """A ratio that is to be at least, or at most, so much."""

    title: str
    above: Number
    below: Number
    needed: float
    aimed: float

    def verdict(self, ratio: float | None) -> str:
        """In one word."""
        if ratio is None:
            return "not measured"
        # What is aimed at lies on the better side of what is needed.
        more = self.aimed > self.needed
        if ratio >= self.aimed if more else ratio <= self.aimed:
            return "reached"
        return "enough" if (ratio >= self.needed if more else ratio <= self.needed) else "short"


AIMS = [
    Aim(
        "chat, requests/s to vllm-router's",
        ("maxgate", "chat", "rate"), ("vllm-router", "chat", "rate"), 0.35, 0.60,
    ),
    Aim(
        "chat, requests/s to LiteLLM's",
        ("maxgate", "chat", "rate"), ("litellm", "chat", "rate"), 60, 120,
    ),
    Aim(
        "CPU per relayed chunk to nginx's",
        ("maxgate", "paced", "cpu_us"), ("nginx", "paced", "cpu_us"), 2.0, 1.5,
    ),
    Aim(
        "added latency at half of saturation, P99, to vllm-router's",
        ("maxgate", "latency-half", "p99_us"), ("vllm-router", "latency-half", "p99_us"), 2.0, 1.2,
    ),
    Aim(
        "CPU of a 1,000-token prompt whose history repeats, to a 32-token one's",
        ("maxgate", "history", "cpu_us"), ("maxgate", "chat", "cpu_us"), 3.0, 2.0,
    ),
    Aim(
        "refusing a bad body, requests/s to chat's",
        ("maxgate", "reject-body", "rate"), ("maxgate", "chat", "rate"), 1.5, 3.0,
    ),
    Aim(
        "refusing an unknown model, requests/s to chat's",
        ("maxgate", "reject-model", "rate"), ("maxgate", "chat", "rate"), 1.5, 3.0,
    ),
]  # fmt: skip
"""The aims of issue 4."""
