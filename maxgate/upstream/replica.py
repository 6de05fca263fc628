"""The state of one MAX server, as requests and probes have observed it."""

import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from maxgate.generation.catalog import Capabilities
from maxgate.upstream.breaker import CircuitBreaker
from maxgate.upstream.http1.connection import Activity
from maxgate.upstream.settings import derive_id, hide_credentials

ReplicaState = Literal["unknown", "healthy", "unreachable"]

# An engine under load may be slow to list its models; one that refuses connections is gone.
MAX_FAILED_PROBES: Final = 3
RECENT: Final = 10.0
"""Seconds in which a response proves that the engine is alive, whatever its probes say."""


@dataclass(frozen=True, slots=True)
class EngineModel:
    """A model as an engine lists it; `context_length` is None if the engine does not report it.

    `software` is the name of the engine's software.
    """

    name: str
    created: int
    context_length: int | None
    software: str = "MAX"


def find_software(models: Mapping[str, EngineModel]) -> str | None:
    """Return the name of the software that serves the models; None without models."""
    return next((model.software for model in models.values()), None)


class Replica:
    """One engine. Its state changes only through its methods; `in_flight` belongs to the pool.

    `target` is the URL for requests, `url` the same without credentials, for everything else.
    `models` keeps the last list while the engine is unreachable: it is expected to return with the
    same models. `serving` has those for which new requests may be sent: none while the engine is
    unreachable or draining. `capabilities` are by model. `in_flight` counts requests whose response
    is not closed yet. `activity` has the time of the last response or token. `watch_failures`
    counts unexpected errors in the gateway while it probed the engine, and `probes` successful
    probes. `reported_requests` is the number of requests at the engine by its own metrics, the sum
    of `reported_running` and `reported_queued`; None if not known at the moment, like `kv_use`, the
    used share of its KV cache. `engine_load` is the load beyond `in_flight`, in requests: those of
    other gateways and workers, and more if the engine is short of KV cache. `id` names the replica
    in the admin API; `breakers` are by model.
    """

    def __init__(
        self,
        url: str,
        *,
        weight: float = 1.0,
        max_concurrency: int | None = None,
        models: Collection[str] | None = None,
        metrics_url: str | None = None,
    ) -> None:
        """`weight` is the replica's share of the load, `models` those to serve from it."""
        self.weight = weight
        self.max_concurrency = max_concurrency
        self.allowed_models = models
        self.metrics_url = metrics_url
        self.reported_requests: int | None = None
        self.reported_running: int | None = None
        self.reported_queued: int | None = None
        self.kv_use: float | None = None
        self._draining = False
        self.engine_load = 0.0
        self.breakers: dict[str, CircuitBreaker] = {}
        self.target = url.rstrip("/")
        self.url = hide_credentials(self.target)
        self.id = derive_id(self.url)
        self.state: ReplicaState = "unknown"
        self.models: Mapping[str, EngineModel] = {}
        self.serving: Mapping[str, EngineModel] = {}
        self._listed: Mapping[str, EngineModel] = {}
        self.capabilities: dict[str, Capabilities] = {}
        self.error: str | None = None
        self.in_flight = 0
        self.activity = Activity()
        self.watch_failures = 0
        self.probes = 0
        self._failed_probes = 0

    @property
    def draining(self) -> bool:
        """Whether the replica finishes its requests and gets no new ones."""
        return self._draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._draining = draining
        self._update_serving()

    @property
    def software(self) -> str | None:
        """Name of the engine's software; None until it has listed its models."""
        return find_software(self.models)

    @property
    def is_saturated(self) -> bool:
        """Whether `max_concurrency` is reached."""
        return self.max_concurrency is not None and self.in_flight >= self.max_concurrency

    @property
    def breaker_states(self) -> dict[str, str]:
        """State of the circuit breaker of each model."""
        now = time.monotonic()
        return {model: breaker.state(now) for model, breaker in self.breakers.items()}

    def fits(self, model: str, length: int) -> bool:
        """Whether the model's context on this replica has room for `length` tokens."""
        served = self.models.get(model)
        return served is None or served.context_length is None or length <= served.context_length

    def has_room(self, model: str, length: int) -> bool:
        """Whether `length` tokens fit into the model's context, and it is not saturated.

        Each request asks, so that this calls nothing.
        """
        served = self.models.get(model)
        return (self.max_concurrency is None or self.in_flight < self.max_concurrency) and (
            served is None or served.context_length is None or length <= served.context_length
        )

    def context_length(self, model: str) -> int:
        """Return the replica's limit for the model; 0 if it is not known."""
        served = self.models.get(model)
        return (served and served.context_length) or 0

    def mark_healthy(
        self,
        models: Mapping[str, EngineModel],
        capabilities: Mapping[str, Capabilities] | None = None,
        now: float | None = None,
    ) -> None:
        """Record a successful probe at the loop's time `now`; `capabilities` are those probed."""
        self.add_capabilities(capabilities or {})
        self._listed = models
        if self.state == "unreachable":
            for breaker in self.breakers.values():
                breaker.try_again(time.monotonic() if now is None else now)
        self.state, self.models, self.error = "healthy", self._select_allowed(), None
        self._update_serving()
        self.probes += 1
        self._failed_probes = 0

    def reconfigure(self, target: str, models: Collection[str] | None) -> None:
        """Use other credentials in the URL `target`, and serve these models from the engine."""
        self.target, self.allowed_models = target, models
        self.models = self._select_allowed()
        self._update_serving()

    def _update_serving(self) -> None:
        self.serving = self.models if self.state == "healthy" and not self._draining else {}

    def _select_allowed(self) -> Mapping[str, EngineModel]:
        if (allowed := self.allowed_models) is None:
            return self._listed
        return {name: model for name, model in self._listed.items() if name in allowed}

    def add_capabilities(self, capabilities: Mapping[str, Capabilities]) -> None:
        """Record what was probed of some models."""
        self.capabilities |= capabilities

    def mark_probe_failed(self, error: str, *, refused: bool, now: float = math.inf) -> None:
        """Record a failed probe at the loop's time `now`.

        A healthy replica tolerates slow probes, all of them while it responds to requests, but no
        refused connection.
        """
        if not refused and self.state == "healthy" and self.is_responding(now):
            return
        self._failed_probes += 1
        if refused or self.state != "healthy" or self._failed_probes >= MAX_FAILED_PROBES:
            self.mark_unreachable(error)

    def is_responding(self, now: float) -> bool:
        """Whether the engine has responded to requests recently, at the loop's time `now`."""
        return now - self.activity.at <= RECENT

    def mark_connect_timeout(self, error: str, now: float) -> None:
        """Record, at the loop's time `now`, that the engine did not accept a connection in time.

        While it responds to requests, it only has no room for more of them.
        """
        if not self.is_responding(now):
            self.mark_unreachable(error)

    def mark_inconclusive(self, error: str) -> None:
        """Record a probe that the gateway could not send; the state stays as it is."""
        self.error = error

    def mark_unreachable(self, error: str) -> None:
        """Take the replica out of service until a probe succeeds."""
        self.state, self.error = "unreachable", error
        self._update_serving()
