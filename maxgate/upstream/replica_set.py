"""The replicas of the gateway, which may change while it runs."""

from collections.abc import Callable, Collection, Sequence

from maxgate.upstream.replica import Replica
from maxgate.upstream.settings import ReplicaSettings


class ReplicaSet:
    """Holds a replica for each engine; `replicas` is one list for as long as the gateway runs."""

    def __init__(self, settings: Sequence[ReplicaSettings]) -> None:
        self.replicas: list[Replica] = []
        self._callbacks: list[Callable[[Sequence[ReplicaSettings]], None]] = []
        self.apply(settings, ())

    def on_change(self, callback: Callable[[Sequence[ReplicaSettings]], None]) -> None:
        """Call this with the new settings after each `apply`."""
        self._callbacks.append(callback)

    def apply(self, settings: Sequence[ReplicaSettings], draining: Collection[str]) -> None:
        """Use these engines, and start no requests at those whose id is in `draining`.

        A replica that stays keeps its state. The requests of one that is removed run to their end.
        """
        known = {replica.id: replica for replica in self.replicas}
        unique = {one.id: one for one in settings}
        replicas = [
            known.get(key) or Replica(one.url, engine_id=key) for key, one in unique.items()
        ]
        for replica, one in zip(replicas, unique.values(), strict=True):
            replica.target = one.url
            replica.weight, replica.max_concurrency = one.weight, one.max_concurrency
            replica.draining = one.id in draining
        self.replicas[:] = replicas
        for callback in self._callbacks:
            callback(settings)
