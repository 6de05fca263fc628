"""Builds the routing policy that the settings name."""

from collections.abc import Mapping, Sequence

from maxgate.upstream.replica import Replica
from maxgate.upstream.routing.affinity import SessionAffinity
from maxgate.upstream.routing.policy import LeastLoaded, RoutingKey, RoutingPolicy
from maxgate.upstream.routing.prefix_affinity import PrefixAffinity
from maxgate.upstream.settings import PolicyName, RoutingSettings


class PolicyByModel:
    """Chooses by the policy of the request's model, or by the default one."""

    def __init__(self, default: RoutingPolicy, by_model: Mapping[str, RoutingPolicy]) -> None:
        """`by_model` has the names of models as engines list them."""
        self._default = default
        self._by_model = by_model

    def choose(self, replicas: Sequence[Replica], key: RoutingKey) -> Replica:
        """Return one of the replicas; see RoutingPolicy."""
        return self._by_model.get(key.model, self._default).choose(replicas, key)


def build_policy(settings: RoutingSettings) -> RoutingPolicy:
    """Build the policy of all models."""
    default = _build(settings.policy, settings)
    if not settings.models:
        return default
    return PolicyByModel(
        default, {model: _build(name, settings) for model, name in settings.models.items()}
    )


def _build(name: PolicyName, settings: RoutingSettings) -> RoutingPolicy:
    if name == "least_loaded":
        return LeastLoaded()
    if name == "session":
        return SessionAffinity(settings.load_factor)
    return PrefixAffinity(
        block_size=settings.block_size,
        load_factor=settings.load_factor,
        max_blocks=settings.max_blocks,
    )
