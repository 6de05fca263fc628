"""The numbers of machine, GPUs and containers."""

from collections.abc import Sequence

from maxgate.tools.monitor.means import most, share
from maxgate.tools.monitor.snapshot import Snapshot
from maxgate.tools.monitor.spans import Span


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
