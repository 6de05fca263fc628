"""The interface of routing policies, and the default one."""

import math
import random
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from maxgate.generation.request import TokenIds
from maxgate.upstream.replica import Replica

# Above this number, comparing two random replicas balances as well as comparing all.
_MANY: Final = 8


class RoutingKey(NamedTuple):
    """Facts about a request that a policy may use; `session` names the client's dialogue."""

    model: str
    prompt: TokenIds | None = None
    session: str | None = None


class RoutingPolicy(Protocol):
    """Chooses one of several replicas that can serve a request."""

    def choose(self, replicas: Sequence[Replica], key: RoutingKey) -> Replica:
        """Return one of the replicas, of which there is at least one."""
        ...


class LeastLoaded:
    """Chooses the replica with the least load for its weight.

    Of many replicas, two random ones are compared (power of two choices): gateways that do not know
    each other would otherwise all choose the same one.
    """

    def __init__(self) -> None:
        self._turn = random.randrange(_MANY)  # noqa: S311  # no secret

    def choose(self, replicas: Sequence[Replica], key: RoutingKey) -> Replica:
        """Return the replica with the least load; equals take turns. See RoutingPolicy."""
        del key
        if len(replicas) > _MANY:
            replicas = random.sample(replicas, 2)
        count = len(replicas)
        self._turn = turn = (self._turn + 1) % count
        chosen, lowest = replicas[turn], math.inf
        for place in range(turn - count, turn):  # from `turn` on; negative places wrap around
            replica = replicas[place]
            load = (replica.in_flight + replica.engine_load + 1) / replica.weight
            if load < lowest:
                chosen, lowest = replica, load
        return chosen
