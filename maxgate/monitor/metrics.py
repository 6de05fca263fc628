"""Every number by its name: what is shown, what rules are about, what a diagnosis rests on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from maxgate.monitor.catalogue import CATALOGUE
from maxgate.monitor.deltas import Span, counted, engine_span, gateway_span, recorded
from maxgate.monitor.histogram import Histogram, merged
from maxgate.monitor.snapshot import EngineReading, GatewayReading, Snapshot


def share(part: float, whole: float) -> float | None:
    """Part of the whole; None of nothing."""
    return part / whole if whole > 0 else None


def mean(values: Iterable[float]) -> float | None:
    """None without values."""
    known = list(values)
    return sum(known) / len(known) if known else None


def most(values: Iterable[float | None]) -> float | None:
    """The largest that is known; None without any."""
    return max((value for value in values if value is not None), default=None)


def host_numbers(snapshots: Sequence[Snapshot]) -> dict[str, float | None]:
    """The machine that the monitor runs on."""
    readings = [snapshot.host for snapshot in snapshots if snapshot.host is not None]
    if not readings:
        return {}
    first, last = readings[0], readings[-1]
    busy = last.cpu_busy_seconds - first.cpu_busy_seconds
    return {
        "host.cpu": share(busy, last.cpu_seconds - first.cpu_seconds),
        "host.memory": share(last.memory_used, last.memory_total),
        "host.disk": share(last.disk_used, last.disk_total),
    }


def gpu_numbers(last: Snapshot) -> dict[str, float | None]:
    """All GPUs together, or the worst of them."""
    gpus = last.gpus
    if not gpus:
        return {}
    watts = [gpu.power_watts for gpu in gpus if gpu.power_watts is not None]
    degrees = [gpu.temperature_celsius for gpu in gpus if gpu.temperature_celsius is not None]
    return {
        "gpu.utilisation": max(gpu.utilisation for gpu in gpus),
        "gpu.memory": max(gpu.memory_used / gpu.memory_total for gpu in gpus),
        "gpu.power": sum(watts) if watts else None,
        "gpu.temperature": max(degrees, default=None),
        "gpu.slowed": sum(bool(gpu.slowed_by) for gpu in gpus),
    }


def container_numbers(snapshots: Sequence[Snapshot]) -> dict[str, float | None]:
    """The worst of the containers."""
    last = snapshots[-1]
    before = {c.name: (s.elapsed, c) for s in reversed(snapshots) for c in s.containers}
    cores, throttled, memory = [], [], []
    for container in last.containers:
        at, first = before[container.name]
        span = Span(last.elapsed - at, first, container)
        cores.append(span.rate(max(container.cpu_seconds - first.cpu_seconds, 0.0)))
        throttled.append(
            share(
                container.throttled_periods - first.throttled_periods,
                container.periods - first.periods,
            )
        )
        memory.append(share(container.memory_used, container.memory_limit))
    return {
        "container.cpu_cores": most(cores),
        "container.memory": most(memory),
        "container.throttled": most(throttled),
    }


Numbers = Mapping[str, float]

_FAULTLESS: Final = frozenset({"ok", "client_error", "client_gone"})


def numbers(snapshots: Sequence[Snapshot]) -> Numbers:
    """What is known at the last of these snapshots, over the time that they span.

    A number that cannot be told is left out; it is never 0 for that.
    """
    last = snapshots[-1]
    spans = [engine_span(snapshots, engine.url) for engine in last.engines]
    found: dict[str, float | None] = {
        "gateway.up": float(last.gateway is not None),
        "max.up": float(sum(span is not None for span in spans)) if spans else None,
        **_gateway(gateway_span(snapshots), snapshots),
        **_engines([span for span in spans if span is not None], snapshots),
        **host_numbers(snapshots),
        **gpu_numbers(last),
        **container_numbers(snapshots),
    }
    return {name: found[name] for name in CATALOGUE if found.get(name) is not None}  # type: ignore[misc]


def _gateway(
    span: Span[GatewayReading] | None, snapshots: Sequence[Snapshot]
) -> dict[str, float | None]:
    if span is None:
        return {}
    first, last = span.first, span.last
    ended = {o: n - first.outcomes.get(o, 0) for o, n in last.outcomes.items()}
    tokens = {kind: n - first.tokens.get(kind, 0) for kind, n in last.tokens.items()}
    requests, answers = sum(ended.values()), ended.get("ok", 0)
    errors = sum(n for outcome, n in ended.items() if outcome not in _FAULTLESS)
    cores = _cores(span)
    return {
        "gateway.requests": span.rate(requests),
        "gateway.errors": span.rate(errors),
        "gateway.error_share": share(errors, requests),
        "gateway.answers": answers if span.seconds else None,
        "gateway.in_flight": mean(s.gateway.in_flight for s in snapshots if s.gateway),
        **_timing("gateway.latency", last.latency.since(first.latency)),
        **_timing("gateway.ttft", last.time_to_first_token.since(first.time_to_first_token)),
        **_timing("gateway.tpot", last.time_per_output_token.since(first.time_per_output_token)),
        "gateway.output_tokens": span.rate(tokens["completion"]),
        "gateway.prompt_tokens": span.rate(tokens["prompt"]),
        "gateway.cached_share": share(tokens["cached"], tokens["prompt"]),
        "gateway.prompt_tokens_each": share(tokens["prompt"], answers),
        "gateway.output_tokens_each": share(tokens["completion"], answers),
        "gateway.cpu_cores": cores,
        "gateway.cpu_per_worker": None if cores is None else share(cores, last.workers),
        "gateway.memory": last.resident_bytes,
        "engines.known": len(last.engines),
        "engines.healthy": sum(engine.state == "healthy" for engine in last.engines),
    }


def outcomes(snapshots: Sequence[Snapshot]) -> dict[str, tuple[int, int]]:
    """By outcome, how many requests ended so within these snapshots, and ever; without `ok`."""
    span = gateway_span(snapshots)
    if span is None:
        return {}
    return {
        outcome: (n - span.first.outcomes.get(outcome, 0), n)
        for outcome, n in span.last.outcomes.items()
        if outcome != "ok"
    }


def _cores(span: Span[GatewayReading]) -> float | None:
    if span.last.cpu_seconds is None:
        return None
    # A worker that died takes its processor time out of the sum.
    return span.rate(max(span.last.cpu_seconds - (span.first.cpu_seconds or 0.0), 0.0))


def _engines(
    spans: Sequence[Span[EngineReading]], snapshots: Sequence[Snapshot]
) -> dict[str, float | None]:
    if not spans:
        return {}

    def total(name: str) -> float | None:
        counts = [n for n in (counted(span, name) for span in spans) if n is not None]
        return sum(counts) if counts else None

    def rate(name: str) -> float | None:
        rates = [span.rate(n) for span in spans if (n := counted(span, name)) is not None]
        known = [one for one in rates if one is not None]
        return sum(known) if known else None

    def size(name: str) -> float | None:
        return merged(recorded(spans, name)).mean

    hits, misses = total("cache_hit_tokens"), total("cache_miss_tokens")
    return {
        **{f"max.{name}": _gauge(snapshots, name) for name in _ENGINE_GAUGES},
        **_timing("max.ttft", merged(recorded(spans, "time_to_first_token"))),
        **_timing("max.tpot", merged(recorded(spans, "time_per_output_token"))),
        "max.output_tokens": rate("output_tokens"),
        "max.batch_prefill": size("batch_size_prefill"),
        "max.batch_decode": size("batch_size_decode"),
        "max.step_prefill": size("batch_time_prefill"),
        "max.step_decode": size("batch_time_decode"),
        "max.kv_used": most(kv_used(span.last) for span in spans),
        "max.cache_hits": share(hits or 0.0, (hits or 0.0) + (misses or 0.0)),
        "max.preemptions": rate("preemptions"),
    }


_ENGINE_GAUGES: Final = ("running", "queued", "awaiting_admission", "responses_buffered")


def _gauge(snapshots: Sequence[Snapshot], name: str) -> float | None:
    readings = [[e.gauges for e in s.engines if e.error is None] for s in snapshots]
    if not any(name in gauges for engines in readings for gauges in engines):
        return None
    # MAX leaves out a queue in which nothing is once it has nothing to do.
    return mean(sum(g.get(name, 0.0) for g in engines) for engines in readings if engines)


def kv_used(engine: EngineReading) -> float | None:
    """Share of the engine's KV cache in use; None where it is not published."""
    blocks = engine.gauges.get("kv_total_blocks", 0.0)
    return share(engine.gauges.get("kv_used_blocks", 0.0), blocks)


def _timing(prefix: str, histogram: Histogram) -> dict[str, float | None]:
    # A percentile of fewer than has one beyond it on average would be the largest value.
    percentiles = {
        f"{prefix}_p{p}": histogram.percentile(p) if histogram.count * (100 - p) >= 100 else None
        for p in (50, 95, 99)
    }
    return {f"{prefix}_mean": histogram.mean, **percentiles}
