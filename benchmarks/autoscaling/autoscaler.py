"""How KEDA and the HorizontalPodAutoscaler decide, after their published algorithms.

KEDA asks every trigger at its polling interval. It starts the first replica when one is active,
stops all after the cooldown, and leaves the rest to an HPA that reads the same values every 15 s.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

TOLERANCE: Final = 0.1
"""Default of the HPA: smaller differences from the target change nothing."""
SYNC: Final = 15.0
"""Interval of the HPA in seconds."""


@dataclass(frozen=True)
class Trigger:
    """A query, its target per replica, and the value above which it is active."""

    query: str
    threshold: float
    activation: float
    failures: list[None] = field(default_factory=list)


@dataclass(frozen=True)
class Rule:
    """One direction of an HPA's behaviour: a window, and at most `pods` in `period` seconds."""

    window: float
    pods: int
    period: float


class Hpa:
    """The number of replicas for values of metrics whose type is AverageValue."""

    def __init__(self, minimum: int, maximum: int, up: Rule, down: Rule) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._up, self._down = up, down
        self._recommendations: list[tuple[float, int]] = []
        self._changes: list[tuple[float, int]] = []

    def decide(
        self, now: float, replicas: int, values: Sequence[tuple[float, float] | None]
    ) -> int:
        """Return the number for pairs of value and target; None is a metric that has failed."""
        known = [pair for pair in values if pair is not None]
        if not known:
            return replicas
        wanted = max(_count_replicas(value, target, replicas) for value, target in known)
        if len(known) < len(values) and wanted < replicas:
            return replicas  # a missing metric might need them
        wanted = min(max(wanted, self._minimum), self._maximum)
        return self._limit(now, replicas, self._stabilize(now, replicas, wanted))

    def _stabilize(self, now: float, replicas: int, wanted: int) -> int:
        if not self._recommendations:  # as a controller that starts
            self._recommendations = [(now, replicas)]
        recent = [(now - at, number) for at, number in self._recommendations]
        lowest = min([wanted, *(number for age, number in recent if age < self._up.window)])
        highest = max([wanted, *(number for age, number in recent if age < self._down.window)])
        self._recommendations.append((now, wanted))
        longest = max(self._up.window, self._down.window)
        self._recommendations = [one for one in self._recommendations if now - one[0] < longest]
        return min(max(replicas, lowest), highest)

    def _limit(self, now: float, replicas: int, wanted: int) -> int:
        added = sum(n for at, n in self._changes if n > 0 and now - at < self._up.period)
        removed = -sum(n for at, n in self._changes if n < 0 and now - at < self._down.period)
        limited = min(wanted, max(replicas - added + self._up.pods, replicas))
        limited = max(limited, min(replicas + removed - self._down.pods, replicas))
        if limited != replicas:
            self._changes.append((now, limited - replicas))
        return limited


def _count_replicas(value: float, target: float, replicas: int) -> int:
    if abs(value / (target * replicas) - 1) <= TOLERANCE:
        return replicas
    return math.ceil(value / target)


class ScaledObject:
    """KEDA's decisions for a ScaledObject, whose `spec` is that of the manifest.

    `read` returns the value of a query, None if it has no single result. All queries must be those
    of Prometheus, with AverageValue and without `ignoreNullValues`.
    """

    def __init__(self, spec: dict[str, Any], read: Callable[[str], float | None]) -> None:
        self._read = read
        self._cooldown: float = spec["cooldownPeriod"]
        self.polling: float = spec["pollingInterval"]
        self._minimum: int = spec["minReplicaCount"]
        self._fallback = spec["fallback"]
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        self._hpa = Hpa(
            max(self._minimum, 1),
            spec["maxReplicaCount"],
            _read_rule(behavior["scaleUp"]),
            _read_rule(behavior["scaleDown"]),
        )
        self._triggers = [_read_trigger(one) for one in spec["triggers"]]
        self._active_at = -math.inf

    def decide(self, now: float, replicas: int) -> int:
        """Return the number of replicas; called every `polling` seconds, which is SYNC."""
        values = [self._read(trigger.query) for trigger in self._triggers]
        for trigger, value in zip(self._triggers, values, strict=True):
            if value is None:
                trigger.failures.append(None)
            else:
                trigger.failures.clear()
        pairs = list(zip(self._triggers, values, strict=True))
        if any(value is not None and value > one.activation for one, value in pairs):
            self._active_at = now
        elif any(value is None for value in values):
            if replicas == 0 and any(self._has_failed(one) for one in self._triggers):
                return int(self._fallback["replicas"])
        elif self._minimum == 0 and replicas and now - self._active_at > self._cooldown:
            return 0
        if replicas == 0:
            return max(self._minimum, 1) if self._active_at == now else self._minimum
        return self._hpa.decide(now, replicas, [self._rate(*pair, replicas) for pair in pairs])

    def _rate(
        self, trigger: Trigger, value: float | None, replicas: int
    ) -> tuple[float, float] | None:
        if value is not None:
            return value, trigger.threshold
        if not self._has_failed(trigger):
            return None
        kept: int = self._fallback["replicas"]
        if self._fallback.get("behavior") == "currentReplicasIfHigher":
            kept = max(kept, replicas)
        return kept * trigger.threshold, trigger.threshold

    def _has_failed(self, trigger: Trigger) -> bool:
        return len(trigger.failures) >= int(self._fallback["failureThreshold"])


def _read_rule(behavior: dict[str, Any]) -> Rule:
    (policy,) = behavior["policies"]
    if policy["type"] != "Pods":
        raise ValueError(f"a policy of type {policy['type']} is not simulated")
    return Rule(behavior["stabilizationWindowSeconds"], policy["value"], policy["periodSeconds"])


def _read_trigger(trigger: dict[str, Any]) -> Trigger:
    metadata = trigger["metadata"]
    kind = trigger["type"], trigger["metricType"], metadata["ignoreNullValues"]
    if kind != ("prometheus", "AverageValue", "false"):
        raise ValueError(f"a trigger of {kind} is not simulated")
    return Trigger(
        metadata["query"], float(metadata["threshold"]), float(metadata["activationThreshold"])
    )
