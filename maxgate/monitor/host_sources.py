"""Containers on the monitor's own host."""

from collections.abc import Mapping
from typing import Any, Final

import docker
from docker.errors import DockerException
from requests import RequestException

from maxgate.monitor.http_sources import Backoff
from maxgate.monitor.snapshot import ContainerReading

_ENGINE_LABEL: Final = "maxgate.engine"
_SERVICE_LABEL: Final = "com.docker.compose.service"
_SERVICES: Final = frozenset({"gateway", "max"})


class ContainerSource:
    """Reads the containers labelled by maxgate and the Compose services `gateway` and `max`.

    Finds none without a Docker Engine, which is retried with backoff. `connect` has the signature
    of `docker.from_env`.
    """

    def __init__(self, connect: Any = docker.from_env) -> None:
        self._connect = connect
        self._client: Any = None
        self._backoff = Backoff()

    def read(self, elapsed: float) -> tuple[ContainerReading, ...]:
        """One reading per container, sorted by name; blocks until Docker responds."""
        if not self._backoff.is_due(elapsed):
            return ()
        try:
            self._client = self._client or self._connect(timeout=3)
            containers = self._client.containers.list(all=True)
            readings = [_read_container(c) for c in containers if _is_maxgate(c.labels)]
        except (DockerException, RequestException):
            self._backoff.record_failure(elapsed)
            return ()
        self._backoff.reset()
        return tuple(sorted(readings, key=lambda reading: reading.name))


def _is_maxgate(labels: Mapping[str, str]) -> bool:
    return _ENGINE_LABEL in labels or labels.get(_SERVICE_LABEL) in _SERVICES


def _read_container(container: Any) -> ContainerReading:
    if container.status != "running":
        return ContainerReading(container.name, container.status)
    # Without one_shot, Docker takes a second sample, which takes a second.
    stats = container.stats(stream=False, one_shot=True)
    cpu, memory = stats.get("cpu_stats", {}), stats.get("memory_stats", {})
    throttling, details = cpu.get("throttling_data", {}), memory.get("stats", {})
    # Like `docker stats`, do not count inactive page cache as used memory.
    cache = details.get("inactive_file", details.get("total_inactive_file", 0))
    return ContainerReading(
        name=container.name,
        status="running",
        cpu_seconds=cpu.get("cpu_usage", {}).get("total_usage", 0) / 1e9,
        memory_used=max(memory.get("usage", 0) - cache, 0),
        memory_limit=memory.get("limit", 0),
        periods=throttling.get("periods", 0),
        throttled_periods=throttling.get("throttled_periods", 0),
    )
