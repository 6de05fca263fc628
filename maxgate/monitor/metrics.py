"""Computes the metrics of the catalogue from the snapshots in the window."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from maxgate.monitor.catalogue import METRICS
from maxgate.monitor.deltas import (
    Delta,
    counter_increase,
    engine_delta,
    gateway_delta,
    histogram_increase,
)
from maxgate.monitor.histogram import Histogram
from maxgate.monitor.snapshot import EngineReading, GatewayReading, Snapshot

Metrics = Mapping[str, float]
"""Values by metric name; unknown metrics are missing."""

CLIENT_OUTCOMES: Final = frozenset({"client_error", "client_gone"})
"""Outcomes caused by the client, which do not count as errors."""

_ENGINE_GAUGES: Final = ("running", "queued", "awaiting_admission", "responses_buffered")


def compute_metrics(snapshots: Sequence[Snapshot]) -> Metrics:
    """The metrics at the last snapshot, over the interval that the snapshots cover.

    Unknown metrics are left out, never reported as 0. Raises IndexError without snapshots.
    """
    last = snapshots[-1]
    deltas = [engine_delta(snapshots, engine.url) for engine in last.engines]
    values: dict[str, float | None] = {
        "gateway.up": float(last.gateway is not None),
        "max.up": float(sum(delta is not None for delta in deltas)) if deltas else None,
        **_gateway_metrics(snapshots),
        **_engine_metrics([delta for delta in deltas if delta is not None], snapshots),
        **_host_metrics(snapshots),
        **_gpu_metrics(last),
        **_container_metrics(snapshots),
    }
    return {name: value for name in METRICS if (value := values.get(name)) is not None}


def count_outcomes(snapshots: Sequence[Snapshot]) -> dict[str, tuple[int, int]]:
    """Requests by outcome except `ok`: in the snapshots' interval, and since the gateway's start.

    Empty if the gateway is unreachable.
    """
    delta = gateway_delta(snapshots)
    if delta is None:
        return {}
    return {
        outcome: (n - delta.first.outcomes.get(outcome, 0), n)
        for outcome, n in delta.last.outcomes.items()
        if outcome != "ok"
    }


def kv_cache_usage(engine: EngineReading) -> float | None:
    """The share of the engine's KV cache in use; None if MAX does not publish it."""
    blocks = engine.gauges.get("kv_total_blocks", 0.0)
    return ratio(engine.gauges.get("kv_used_blocks", 0.0), blocks)


def ratio(part: float, whole: float) -> float | None:
    """`part / whole`; None if the whole is 0."""
    return part / whole if whole > 0 else None


def mean(values: Iterable[float]) -> float | None:
    """The arithmetic mean; None without values."""
    known = list(values)
    return sum(known) / len(known) if known else None


def max_known(values: Iterable[float | None]) -> float | None:
    """The largest value, ignoring None; None if all are None."""
    return max((value for value in values if value is not None), default=None)


def _gateway_metrics(snapshots: Sequence[Snapshot]) -> dict[str, float | None]:
    delta = gateway_delta(snapshots)
    if delta is None:
        return {}
    first, last = delta.first, delta.last
    ended = {o: n - first.outcomes.get(o, 0) for o, n in last.outcomes.items()}
    tokens = {kind: n - first.tokens.get(kind, 0) for kind, n in last.tokens.items()}
    requests, successful = sum(ended.values()), ended.get("ok", 0)
    errors = requests - successful - sum(ended.get(outcome, 0) for outcome in CLIENT_OUTCOMES)
    latency = last.latency.since(first.latency)
    cores = _used_cores(delta)
    return {
        "gateway.requests": delta.rate(requests),
        "gateway.errors": delta.rate(errors),
        "gateway.error_share": ratio(errors, requests),
        "gateway.answers": successful if delta.seconds else None,
        "gateway.in_flight": mean(s.gateway.in_flight for s in snapshots if s.gateway),
        **_timing("gateway.latency", latency),
        **_timing("gateway.ttft", last.time_to_first_token.since(first.time_to_first_token)),
        **_timing("gateway.tpot", last.time_per_output_token.since(first.time_per_output_token)),
        **_timing(
            "gateway.embedding_latency", last.embedding_latency.since(first.embedding_latency)
        ),
        "gateway.output_tokens": delta.rate(tokens["completion"]),
        "gateway.prompt_tokens": delta.rate(tokens["prompt"]),
        "gateway.cached_share": ratio(tokens["cached"], tokens["prompt"]),
        "gateway.prompt_tokens_each": ratio(tokens["prompt"], latency.count),
        "gateway.output_tokens_each": ratio(tokens["completion"], latency.count),
        "gateway.cpu_cores": cores,
        "gateway.cpu_per_worker": None if cores is None else ratio(cores, last.workers),
        "gateway.memory": last.resident_bytes,
        "engines.known": len(last.engines),
        "engines.healthy": sum(engine.state == "healthy" for engine in last.engines),
    }


def _used_cores(delta: Delta[GatewayReading]) -> float | None:
    if delta.last.cpu_seconds is None:
        return None
    # The CPU time of a worker that exited leaves the sum, so the difference can be negative.
    return delta.rate(max(delta.last.cpu_seconds - (delta.first.cpu_seconds or 0.0), 0.0))


def _engine_metrics(
    deltas: Sequence[Delta[EngineReading]], snapshots: Sequence[Snapshot]
) -> dict[str, float | None]:
    if not deltas:
        return {}
    hits = _total(counter_increase(delta, "cache_hit_tokens") for delta in deltas) or 0.0
    misses = _total(counter_increase(delta, "cache_miss_tokens") for delta in deltas) or 0.0
    return {
        **{f"max.{name}": _gauge(snapshots, name) for name in _ENGINE_GAUGES},
        **_timing("max.ttft", histogram_increase(deltas, "time_to_first_token")),
        **_timing("max.tpot", histogram_increase(deltas, "time_per_output_token")),
        "max.output_tokens": _total_rate(deltas, "output_tokens"),
        "max.batch_prefill": histogram_increase(deltas, "batch_size_prefill").mean,
        "max.batch_decode": histogram_increase(deltas, "batch_size_decode").mean,
        "max.step_prefill": histogram_increase(deltas, "batch_time_prefill").mean,
        "max.step_decode": histogram_increase(deltas, "batch_time_decode").mean,
        "max.kv_used": max_known(kv_cache_usage(delta.last) for delta in deltas),
        "max.cache_hits": ratio(hits, hits + misses),
        "max.preemptions": _total_rate(deltas, "preemptions"),
    }


def _total_rate(deltas: Sequence[Delta[EngineReading]], name: str) -> float | None:
    increases = ((delta, counter_increase(delta, name)) for delta in deltas)
    return _total(delta.rate(n) for delta, n in increases if n is not None)


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _gauge(snapshots: Sequence[Snapshot], name: str) -> float | None:
    readings = [[e.gauges for e in s.engines if e.error is None] for s in snapshots]
    if not any(name in gauges for engines in readings for gauges in engines):
        return None
    # An idle MAX stops publishing the gauges of empty queues, so a missing gauge counts as 0.
    return mean(sum(g.get(name, 0.0) for g in engines) for engines in readings if engines)


def _timing(prefix: str, histogram: Histogram) -> dict[str, float | None]:
    # With fewer than 100 / (100 - p) values, a percentile would equal the maximum.
    percentiles = {
        f"{prefix}_p{p}": histogram.percentile(p) if histogram.count * (100 - p) >= 100 else None
        for p in (50, 95, 99)
    }
    return {f"{prefix}_mean": histogram.mean, **percentiles}


def _host_metrics(snapshots: Sequence[Snapshot]) -> dict[str, float | None]:
    readings = [snapshot.host for snapshot in snapshots if snapshot.host is not None]
    if not readings:
        return {}
    first, last = readings[0], readings[-1]
    busy = last.cpu_busy_seconds - first.cpu_busy_seconds
    return {
        "host.cpu": ratio(busy, last.cpu_seconds - first.cpu_seconds),
        "host.memory": ratio(last.memory_used, last.memory_total),
        "host.disk": ratio(last.disk_used, last.disk_total),
    }


def _gpu_metrics(last: Snapshot) -> dict[str, float | None]:
    gpus = last.gpus
    if not gpus:
        return {}
    return {
        "gpu.utilisation": max(gpu.utilisation for gpu in gpus),
        "gpu.memory": max(gpu.memory_used / gpu.memory_total for gpu in gpus),
        "gpu.power": _total(gpu.power_watts for gpu in gpus),
        "gpu.temperature": max_known(gpu.temperature_celsius for gpu in gpus),
        "gpu.slowed": sum(bool(gpu.slowed_by) for gpu in gpus),
    }


def _container_metrics(snapshots: Sequence[Snapshot]) -> dict[str, float | None]:
    last = snapshots[-1]
    earliest = {c.name: (s.elapsed, c) for s in reversed(snapshots) for c in s.containers}
    cores, throttled, memory = [], [], []
    for container in last.containers:
        begin, first = earliest[container.name]
        delta = Delta(last.elapsed - begin, first, container)
        cores.append(delta.rate(max(container.cpu_seconds - first.cpu_seconds, 0.0)))
        throttled.append(
            ratio(
                container.throttled_periods - first.throttled_periods,
                container.periods - first.periods,
            )
        )
        memory.append(ratio(container.memory_used, container.memory_limit))
    return {
        "container.cpu_cores": max_known(cores),
        "container.memory": max_known(memory),
        "container.throttled": max_known(throttled),
    }
