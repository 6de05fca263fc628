"""The replicas of a worker follow the configuration and DNS while it serves."""

import asyncio
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.replica_set import ReplicaSet, replace_host
from maxgate.upstream.settings import ReplicaSettings


def engine(url: str, **fields: Any) -> ReplicaSettings:
    """Return the settings of an engine."""
    return ReplicaSettings.model_validate({"url": url, **fields})


def list_urls(replicas: Collection[Replica]) -> list[str]:
    """Return the URLs of replicas."""
    return [replica.url for replica in replicas]


def test_apply() -> None:
    """Engines come and go in the one list; those that stay keep their state."""
    removed: list[Replica] = []
    found = ReplicaSet([engine("http://a"), engine("http://b")], removed.extend)
    replicas, [first, second] = found.replicas, list(found.replicas)
    first.mark_healthy({"m": EngineModel("m", 1, 100)})
    first.in_flight = 3
    found.apply([engine("http://c"), engine("http://a", weight=2, max_concurrency=8)], [first.id])
    assert found.replicas is replicas
    assert list_urls(replicas) == ["http://c", "http://a"]
    assert replicas[1] is first
    assert (first.state, first.in_flight, first.draining) == ("healthy", 3, True)
    assert (first.weight, first.max_concurrency) == (2, 8)
    assert removed == [second]


def test_undrain() -> None:
    """An engine that is no longer drained gets requests again."""
    found = ReplicaSet([engine("http://a")])
    [replica] = found.replicas
    for draining, expected in (([replica.id], True), ([], False)):
        found.apply(found.engines, draining)
        assert replica.draining is expected


def test_models() -> None:
    """An engine serves only the models that its item names, at once when the item changes."""
    found = ReplicaSet([engine("http://a", models=["small"])])
    [replica] = found.replicas
    replica.mark_healthy({name: EngineModel(name, 1, 100) for name in ("small", "large")})
    assert list(replica.models) == ["small"]
    for models, expected in ((["large"], ["large"]), (None, ["small", "large"])):
        found.apply([engine("http://a", models=models)])
        assert found.replicas == [replica]
        assert (replica.state, list(replica.models)) == ("healthy", expected)


def test_credentials() -> None:
    """An engine with other credentials keeps its state; several of one engine stay apart."""
    removed: list[Replica] = []
    found = ReplicaSet([engine("http://old:p@a")], removed.extend)
    [replica] = found.replicas
    replica.mark_healthy({"m": EngineModel("m", 1, 100)})
    found.apply([engine("http://new:p@a")])
    assert (found.replicas, replica.target) == ([replica], "http://new:p@a")
    assert (replica.state, list(replica.models), removed) == ("healthy", ["m"], [])
    found.apply([engine("http://new:p@a"), engine("http://other:p@a")])
    assert [one.target for one in found.replicas] == ["http://new:p@a", "http://other:p@a"]
    assert found.replicas[0] is replica


def test_ids() -> None:
    """Ids are stable, and do not depend on the password."""
    ids = [Replica(url).id for url in ("http://a:1", "http://u:p@a:1", "http://b:1")]
    assert ids[0] == Replica("http://a:1/").id
    assert len(set(ids)) == 2
    assert {len(one) for one in ids} == {8}


async def resolve(monkeypatch: pytest.MonkeyPatch, found: ReplicaSet, *addresses: str) -> None:
    """Look up names, with these addresses or without any."""

    async def getaddrinfo(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        if not addresses:
            raise OSError("no such name")
        return [(0, 0, 0, "", (address, 8000)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
    await found.look_up()


async def test_dns_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address of a name has metrics of its own."""
    url = "http://max:8001/metrics"
    found = ReplicaSet([engine("dns+http://max:8000", metrics_url=url)])
    await resolve(monkeypatch, found, "10.0.0.1", "10.0.0.2")
    assert [replica.metrics_url for replica in found.replicas] == [
        "http://10.0.0.1:8001/metrics",
        "http://10.0.0.2:8001/metrics",
    ]


def test_metrics_url() -> None:
    """A URL of metrics without a scheme is an error."""
    with pytest.raises(ValidationError, match=r"'max:8001' is not a URL; write http://host:port"):
        engine("http://max:8000", metrics_url="max:8001")


async def test_address_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that is also an engine by itself is one replica, with its settings."""
    found = ReplicaSet(
        [engine("dns+http://max:8000"), engine("http://u:p@10.0.0.1:8000", weight=2)]
    )
    await resolve(monkeypatch, found, "10.0.0.1", "10.0.0.2")
    assert [(replica.target, replica.weight) for replica in found.replicas] == [
        ("http://10.0.0.2:8000", 1),
        ("http://u:p@10.0.0.1:8000", 2),
    ]


async def test_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address of a name is a replica; a failed lookup changes nothing."""
    found = ReplicaSet([engine("dns+http://u:p@max:8000/v1", weight=2), engine("http://b")])
    assert list_urls(found.replicas) == ["http://b"]
    await resolve(monkeypatch, found, "10.0.0.2", "10.0.0.1", "::1")
    expected = ["http://10.0.0.1:8000", "http://10.0.0.2:8000", "http://[::1]:8000", "http://b"]
    assert list_urls(found.replicas) == expected
    assert [replica.weight for replica in found.replicas] == [2, 2, 2, 1]
    assert found.replicas[0].target == "http://u:p@10.0.0.1:8000"
    await resolve(monkeypatch, found)
    assert list_urls(found.replicas) == expected
    await resolve(monkeypatch, found, "10.0.0.1", "10.0.0.9")
    assert list_urls(found.replicas) == ["http://10.0.0.1:8000", "http://10.0.0.9:8000", "http://b"]


@pytest.mark.parametrize(
    ("url", "address", "replaced"),
    [
        ("http://max", "10.0.0.1", "http://10.0.0.1"),
        ("https://max:1/path", "fe80::1", "https://[fe80::1]:1/path"),
        ("http://u:p@max:1", "10.0.0.1", "http://u:p@10.0.0.1:1"),
    ],
)
def test_replace_host(url: str, address: str, replaced: str) -> None:
    """Only the host name is replaced."""
    assert replace_host(urlsplit(url), address) == replaced
