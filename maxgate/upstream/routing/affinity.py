"""Affinity by rendezvous hashing with bounded load, and the policy that uses it for sessions.

Every gateway computes the same order of replicas for a key, without shared state. When a replica
joins or leaves, only the keys move that it gets or had. The bound follows consistent hashing with
bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016).
"""

import hashlib
import math
from collections.abc import Sequence

from maxgate.upstream.replica import Replica
from maxgate.upstream.routing.policy import LeastLoaded, RoutingKey


def rank_replicas(replicas: Sequence[Replica], key: bytes) -> list[Replica]:
    """Return the replicas in their order of preference for the key.

    A replica comes first for a share of the keys that is proportional to its weight.
    """
    return sorted(replicas, key=lambda replica: _score(replica, key), reverse=True)


def _score(replica: Replica, key: bytes) -> float:
    digest = hashlib.blake2b(replica.url.encode(), digest_size=8, key=key[:64]).digest()
    share = (int.from_bytes(digest, "little") + 1) / (2**64 + 1)
    return -replica.weight / math.log(share) if share < 1 else math.inf


def find_roomy(replicas: Sequence[Replica], load_factor: float) -> list[Replica]:
    """Return the replicas below their load bound; there is always one.

    The bound is the replica's share, by weight, of all requests and the next one, times
    `load_factor`, which is above 1, and rounded up.
    """
    loads = [replica.in_flight + replica.engine_load for replica in replicas]
    allowed = load_factor * (sum(loads) + 1) / sum([replica.weight for replica in replicas])
    return [
        replica
        for replica, load in zip(replicas, loads, strict=True)
        if load < math.ceil(allowed * replica.weight)
    ]


def digest_key(model: str, text: str) -> bytes:
    """Return the key of a text for rank_replicas, which differs between models."""
    return hashlib.blake2b(f"{model}\0{text}".encode(), digest_size=16).digest()


class SessionAffinity:
    """Keeps the requests of a session at one replica; requests without a session go anywhere."""

    def __init__(self, load_factor: float) -> None:
        self._load_factor = load_factor
        self._least_loaded = LeastLoaded()

    def choose(self, replicas: Sequence[Replica], key: RoutingKey) -> Replica:
        """Return the session's first replica that has room; see RoutingPolicy."""
        if not key.session:
            return self._least_loaded.choose(replicas, key)
        roomy = find_roomy(replicas, self._load_factor)
        return rank_replicas(roomy, digest_key(key.model, key.session))[0]
