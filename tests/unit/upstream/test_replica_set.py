"""The set of replicas changes while the gateway runs."""

from collections.abc import Sequence

from maxgate.upstream.replica_set import ReplicaSet
from maxgate.upstream.settings import ReplicaSettings

A, B = ReplicaSettings(url="http://a"), ReplicaSettings(url="http://user:secret@b", weight=2)


def test_apply() -> None:
    """Replicas that stay keep their state; the list and its order follow the settings."""
    replicas = ReplicaSet([A])
    found = replicas.replicas
    [first] = found
    first.mark_unreachable("refused")
    replicas.apply([B, A], [A.id])
    assert [replica.id for replica in found] == [B.id, A.id]
    assert found[1] is first
    assert (first.error, first.draining, found[0].weight) == ("refused", True, 2)
    replicas.apply([B], [])
    assert [replica.target for replica in found] == [B.url]


def test_new_credentials() -> None:
    """An engine with new credentials is the same replica."""
    replicas = ReplicaSet([A])
    [replica] = replicas.replicas
    replicas.apply([ReplicaSettings(url="http://user:new@a")], [])
    assert replicas.replicas == [replica]
    assert (replica.target, replica.url) == ("http://user:new@a", "http://a")


def test_duplicates() -> None:
    """An engine that is listed twice is one replica."""
    assert len(ReplicaSet([A, A]).replicas) == 1


def test_callbacks() -> None:
    """Each change is reported with the new settings."""
    replicas, seen = ReplicaSet([A]), list[Sequence[ReplicaSettings]]()
    replicas.on_change(seen.append)
    replicas.apply([A, B], [])
    assert seen == [[A, B]]
