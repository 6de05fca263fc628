"""Containers that belong to the gateway, through the Docker Engine."""

from collections.abc import Mapping
from typing import Any, Final

import docker
from docker.errors import DockerException
from requests import RequestException

from maxgate.tools.monitor.pauses import Pauses
from maxgate.tools.monitor.snapshot import ContainerReading

_ENGINE_LABEL: Final = "maxgate.engine"
_SERVICE_LABEL: Final = "com.docker.compose.service"
_SERVICES: Final = frozenset({"gateway", "max"})


class ContainerSource:
    """Reads the engine's container, however it was started, and the gateway's.

    Those are the ones that maxgate labelled, and Compose's services `gateway` and `max`. None
    without a Docker Engine. `connect` is `docker.from_env`.
    """

    def __init__(self, connect: Any = docker.from_env) -> None:
        self._connect = connect
        self._client: Any = None
        self._pauses = Pauses()

    def read(self, elapsed: float) -> tuple[ContainerReading, ...]:
        """The containers; blocks while Docker answers."""
        if not self._pauses.over(elapsed):
            return ()
        try:
            self._client = self._client or self._connect(timeout=3)
            ours = [c for c in self._client.containers.list(all=True) if _is_ours(c.labels)]
            found = tuple(sorted((_read(c) for c in ours), key=lambda reading: reading.name))
        except (DockerException, RequestException):
            self._pauses.failed(elapsed)
            return ()
        self._pauses.succeeded()
        return found


def _is_ours(labels: Mapping[str, str]) -> bool:
    return _ENGINE_LABEL in labels or labels.get(_SERVICE_LABEL) in _SERVICES


def _read(container: Any) -> ContainerReading:
    if container.status != "running":
        return ContainerReading(container.name, container.status)
    # One shot: otherwise Docker waits a second for a second sample.
    stats = container.stats(stream=False, one_shot=True)
    return read_stats(container.name, stats)


def read_stats(name: str, stats: Mapping[str, Any]) -> ContainerReading:
    """A running container from the Docker Engine's statistics.

    As `docker stats` does, memory that is only a cache of files is not counted as used.
    """
    cpu, memory = stats.get("cpu_stats", {}), stats.get("memory_stats", {})
    throttling, detail = cpu.get("throttling_data", {}), memory.get("stats", {})
    cache = detail.get("inactive_file", detail.get("total_inactive_file", 0))
    return ContainerReading(
        name=name,
        status="running",
        cpu_seconds=cpu.get("cpu_usage", {}).get("total_usage", 0) / 1e9,
        memory_used=max(memory.get("usage", 0) - cache, 0),
        memory_limit=memory.get("limit", 0),
        periods=throttling.get("periods", 0),
        throttled_periods=throttling.get("throttled_periods", 0),
    )
