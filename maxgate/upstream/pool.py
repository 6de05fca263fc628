"""The pool of replicas: choose one for each call, and look for slow ones."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

import structlog

from maxgate.errors import StackTrace
from maxgate.generation.context import RequestContext
from maxgate.upstream.client import EngineClient
from maxgate.upstream.replica import Replica
from maxgate.upstream.retry_budget import OpenCounts, RetryBudget
from maxgate.upstream.routing.policy import LeastLoaded, RoutingKey, RoutingPolicy
from maxgate.upstream.settings import FailoverSettings, UpstreamSettings
from maxgate.upstream.traffic import ModelTraffic

# Precision of the time after which a slow replica is left.
_TICK: Final = 0.2
_LONG_TICK: Final = 1.0

_log = structlog.get_logger("upstream")


class EngineCall(NamedTuple):
    """A request to any replica that serves the model of `key`.

    `stream` selects the timeouts. `length` counts the tokens that must fit into the replica's
    context; `max_tokens` limits the response, None means unknown.
    """

    key: RoutingKey
    path: str
    body: bytes
    context: RequestContext
    stream: bool = False
    length: int = 0
    max_tokens: int | None = None


class ReplicaPool:
    """The replicas, what has been observed of them, and the choice among them."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        client: EngineClient,
        settings: UpstreamSettings,
        failover: FailoverSettings | None = None,
        policy: RoutingPolicy | None = None,
        open_counts: OpenCounts | None = None,
    ) -> None:
        """`open_counts` opens the counts of a model's retry budget; see RetryBudget.

        `by_model` is filled by `traffic`.
        """
        self.replicas = replicas
        self.settings = settings
        self.failover = failover or FailoverSettings()
        self.client = client
        self._policy = policy or LeastLoaded()
        self._open_counts = open_counts
        self.by_model: dict[str, ModelTraffic] = {}

    def traffic(self, model: str) -> ModelTraffic:
        """Return the observations of a model."""
        traffic = self.by_model.get(model)
        if traffic is None:
            counts = () if self._open_counts is None else self._open_counts(model)
            budget = RetryBudget(self.failover.retries, *counts)
            traffic = self.by_model[model] = ModelTraffic(self.failover, model, budget)
        return traffic

    def list_models(self) -> set[str]:
        """Return the names of the models that engines serve."""
        return {model for replica in self.replicas for model in replica.serving}

    def measure_load(self, model: str) -> tuple[int, int | None, int | None]:
        """Return how many engines serve a model, and how many requests run and wait there.

        The latter are None unless all of these engines report them.
        """
        serving = [replica for replica in self.replicas if model in replica.serving]
        running = [replica.reported_running for replica in serving]
        queued = [replica.reported_queued for replica in serving]
        if not serving or None in running or None in queued:
            return len(serving), None, None
        return len(serving), sum(filter(None, running)), sum(filter(None, queued))

    def count_slots(self, model: str, per_engine: int | None) -> int | None:
        """Return how many requests the engines of a model work on at a time, if that is set.

        The `max_concurrency` of an engine counts before `per_engine`.
        """
        slots = [
            replica.max_concurrency or per_engine
            for replica in self.replicas
            if model in replica.serving
        ]
        return None if not slots or None in slots else sum(filter(None, slots))

    def forget(self, replica: Replica) -> None:
        """Drop what is known about a replica that has been removed."""
        for traffic in self.by_model.values():
            traffic.forget(replica)

    async def run(self) -> None:
        """Keep the retry budgets up to date and look for slow replicas, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_TICK if len(self.replicas) > 1 else _LONG_TICK)
            try:
                self._tick(loop.time())
            except Exception as error:  # noqa: BLE001  # the loop must go on
                _log.error("search for slow engines failed", exception=StackTrace(error))

    def _tick(self, now: float) -> None:
        for traffic in list(self.by_model.values()):
            traffic.budget.tick(now)
            if len(self.replicas) > 1:
                traffic.count_successes(now)
                traffic.measure_streams(now)
                traffic.interrupt_overdue(now)
                traffic.eject_slow(now)

    def choose(
        self, call: EngineCall, now: float, *, exclude: Sequence[Replica] = (), panic: bool = True
    ) -> Replica | None:
        """Return the replica for a call, or None.

        Without a replica whose breaker lets requests through, `panic` sends them all the same:
        a breaker cannot tell a broken engine from a broken gateway.
        """
        replicas, model = self.replicas, call.key.model
        usable = [replica for replica in replicas if model in replica.serving] or [
            replica for replica in replicas if replica.state == "unknown" and not replica.draining
        ]
        if exclude:
            usable = [replica for replica in usable if replica not in exclude]
        if len(replicas) == 1 or not usable:
            return usable[0] if usable else None
        traffic = self.by_model.get(model) or self.traffic(model)
        if traffic.restricted:
            allowed = traffic.filter_allowed(usable, now)
            if not allowed and not panic:
                return None
            usable = allowed or usable
        chosen = self._policy.choose(usable, call.key)
        if not chosen.has_room(model, call.length):
            chosen = self._choose_roomy(usable, call) or chosen
        return chosen

    def _choose_roomy(self, replicas: Sequence[Replica], call: EngineCall) -> Replica | None:
        model, length = call.key.model, call.length
        fitting = [r for r in replicas if r.fits(model, length)] or replicas
        roomy = [replica for replica in fitting if not replica.is_saturated] or fitting
        return self._policy.choose(roomy, call.key) if roomy else None
