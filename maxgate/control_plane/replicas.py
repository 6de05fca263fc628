"""The replicas of this process, as the control of engines sees them."""

import asyncio
from collections.abc import Collection, Sequence

from typing_extensions import override

from maxgate.api.admin.schemas import Engine
from maxgate.control_plane.worker import WorkerEngines
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import Replica
from maxgate.upstream.replica_set import ReplicaSet
from maxgate.upstream.settings import ReplicaSettings


class ReplicaEngines(WorkerEngines):
    """Applies lists of engines to the replicas, and reports their state."""

    def __init__(self, replicas: ReplicaSet, pool: ReplicaPool) -> None:
        self._replicas = replicas
        self._pool = pool

    @override
    def apply(self, engines: Sequence[ReplicaSettings], draining: Collection[str]) -> None:
        self._replicas.apply(engines, draining)

    @override
    def report(self) -> list[Engine]:
        return [self._describe(replica) for replica in self._replicas.replicas]

    def _describe(self, replica: Replica) -> Engine:
        now, pool = asyncio.get_running_loop().time(), self._pool
        return Engine(
            id=replica.id,
            url=replica.url,
            state=replica.state,
            draining=replica.draining,
            models=sorted(replica.models),
            in_flight=replica.in_flight,
            breakers={
                model: pool.traffic(model).breaker(replica).state(now) for model in replica.models
            },
            weight=replica.weight,
            max_concurrency=replica.max_concurrency,
            source="configuration",
            error=replica.error,
        )
