"""Policies allow the connections that are needed, and no others."""

from itertools import product

import pytest
import yaml

from tests.fakes.manifests import FOLDER, OVERLAYS, find, find_pods, select
from tests.fakes.network_policies import Network, Peer, is_in_block, matches

NAMESPACE = "maxgate"
PORTS = (53, 443, 5432, 6379, 8000, 8001, 9090)
OUTSIDE = {
    "dns": Peer("kube-system", {"k8s-app": "kube-dns"}),
    "data": Peer("data", {"app": "postgres"}),
    "proxy": Peer("gateway-system", {"app": "nginx"}),
    "prometheus": Peer("monitoring", {"app.kubernetes.io/name": "prometheus"}),
    "grafana": Peer("monitoring", {"app.kubernetes.io/name": "grafana"}),
    "stranger": Peer("default", {"app.kubernetes.io/name": "gateway"}),
    "internet": Peer("", {}, address="93.184.216.34"),
    "metadata service": Peer("", {}, address="169.254.169.254"),
    "private network": Peer("", {}, address="10.1.2.3"),
}
ALWAYS = {
    *((pod, "dns", 53) for pod in ("gateway", "max", "stray")),
    ("proxy", "gateway", 8000),
    ("gateway", "max", 8000),
    ("gateway", "max", 8001),
    ("max", "internet", 443),
}
WITH_DATABASE = {
    ("gateway", "data", 5432),
    ("gateway", "data", 6379),
    ("db-upgrade", "data", 5432),
    ("db-upgrade", "dns", 53),
}
WITH_PROMETHEUS = {("prometheus", "gateway", 8000), ("prometheus", "max", 8001)}
EXPECTED = {
    "dev": ALWAYS,
    "staging": ALWAYS | WITH_DATABASE | WITH_PROMETHEUS,
    "production": ALWAYS | WITH_DATABASE | WITH_PROMETHEUS,
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_reachability(overlay: str) -> None:
    """Of all pairs of peers and ports, exactly the needed ones are connected."""
    network = Network(NAMESPACE, select(overlay, "NetworkPolicy"))
    peers = {**OUTSIDE, "stray": Peer(NAMESPACE, {"app": "debug"})}
    for name in ("gateway", "max", "db-upgrade"):
        if name != "db-upgrade" or overlay != "dev":
            pods = find_pods(overlay, name)
            ports = {
                port["name"]: port["containerPort"]
                for container in pods.containers
                for port in container.get("ports", [])
            }
            peers[name] = Peer(NAMESPACE, pods.labels, ports)
    inside = {name for name, peer in peers.items() if peer.namespace == NAMESPACE}
    allowed = {
        (source, target, port)
        for source, target, port in product(peers, peers, PORTS)
        if source != target
        and {source, target} & inside
        and network.allows(peers[source], peers[target], port)
    }
    assert allowed == EXPECTED[overlay]


def test_dns_over_udp() -> None:
    """Names are looked up over UDP, and nothing else uses it."""
    network = Network(NAMESPACE, select("production", "NetworkPolicy"))
    gateway = Peer(NAMESPACE, find_pods("production", "gateway").labels)
    engine = Peer(NAMESPACE, find_pods("production", "max").labels, {"http": 8000})
    assert network.allows(gateway, OUTSIDE["dns"], 53, "UDP")
    assert not network.allows(gateway, engine, 8000, "UDP")


def test_load_test() -> None:
    """Shards of the load test reach the gateway by the name of its Service, and nothing else."""
    folder = FOLDER / "loadtest"
    policies = list(yaml.safe_load_all((folder / "network.yaml").read_text()))
    job = yaml.safe_load((folder / "job.yaml").read_text())
    network = Network(NAMESPACE, [*select("staging", "NetworkPolicy"), *policies])
    shard = Peer(NAMESPACE, job["spec"]["template"]["metadata"]["labels"])
    gateway = Peer(NAMESPACE, find_pods("staging", "gateway").labels, {"http": 8000})
    engine = Peer(NAMESPACE, find_pods("staging", "max").labels, {"http": 8000})
    service = find("staging", "Service", "gateway")["metadata"]["name"]

    assert network.allows(shard, gateway, 8000)
    assert not network.allows(shard, engine, 8000)
    assert not network.allows(Peer(NAMESPACE, {"app": "debug"}), gateway, 8000)
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert f"--url=http://{service}:8000" in container["args"]
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert (kustomization["namespace"], kustomization["resources"]) == (
        NAMESPACE,
        ["results.yaml", "network.yaml"],
    )


def test_evaluator() -> None:
    """Pods without a policy accept all; empty rules allow all; unknown selectors are refused."""
    a, b = Peer("n", {"app": "a"}), Peer("n", {"app": "b"})
    assert Network("n", []).allows(a, b, 1)
    policy = {"spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}}
    assert Network("n", [policy]).allows(a, b, 1)
    closed = {"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    assert not Network("n", [closed]).allows(a, b, 1)
    with pytest.raises(ValueError, match="matchExpressions"):
        matches({"matchExpressions": []}, {})
    assert not is_in_block({"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}, "10.1.1.1")
