"""The replicas of this process, as the control of engines sees them."""

import asyncio
from collections.abc import Collection, Sequence

from typing_extensions import override

from maxgate.api.admin.schemas import Engine
from maxgate.control_plane.worker import WorkerEngines
from maxgate.upstream.replica import Replica
from maxgate.upstream.replica_set import ReplicaSet
from maxgate.upstream.settings import DNS_PREFIX, ReplicaSettings


class ReplicaEngines(WorkerEngines):
    """Applies lists of engines to the replicas, and reports their state."""

    def __init__(self, replicas: ReplicaSet) -> None:
        self._replicas = replicas
        self._lookup: asyncio.Task[None] | None = None

    @override
    def apply(self, engines: Sequence[ReplicaSettings], draining: Collection[str]) -> None:
        before = {engine.url for engine in self._replicas.engines}
        self._replicas.apply(engines, draining)
        # The set itself looks up names at an interval.
        if any(e.url.startswith(DNS_PREFIX) and e.url not in before for e in engines):
            self._lookup = asyncio.create_task(self._replicas.look_up())

    @override
    def report(self) -> list[Engine]:
        return [describe(replica) for replica in self._replicas.replicas]


def describe(replica: Replica) -> Engine:
    """Return the replica as the admin API shows it."""
    return Engine(
        id=replica.id,
        url=replica.url,
        state=replica.state,
        draining=replica.draining,
        models=sorted(replica.models),
        in_flight=replica.in_flight,
        breakers=replica.breaker_states,
        weight=replica.weight,
        max_concurrency=replica.max_concurrency,
        source="configuration",
        error=replica.error,
    )
