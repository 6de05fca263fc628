"""Which connections NetworkPolicies allow, for pods and peers that are given by their labels.

The rules are those of networking.k8s.io/v1: a pod that a policy selects accepts or opens only what
one of its policies allows, and a connection needs both ends. An IP block stands for the internet.
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Literal, NamedTuple

Direction = Literal["Ingress", "Egress"]
Labels = Mapping[str, str]


class Peer(NamedTuple):
    """An end of a connection: a pod, or an address outside of the cluster.

    `ports` are the numbers of the container's named ports.
    """

    namespace: str
    labels: Labels
    ports: Mapping[str, int] = {}
    address: str | None = None


class Network:
    """The policies of one namespace; other namespaces allow everything."""

    def __init__(self, namespace: str, policies: Iterable[dict[str, Any]]) -> None:
        self._namespace = namespace
        self._policies = [policy["spec"] for policy in policies]

    def allows(self, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
        """Return whether the source may connect to this port of the target."""
        return self._allows(source, target, target, port, protocol, "Egress") and self._allows(
            target, source, target, port, protocol, "Ingress"
        )

    def _allows(
        self, pod: Peer, other: Peer, target: Peer, port: int, protocol: str, direction: Direction
    ) -> bool:
        if pod.namespace != self._namespace or pod.address is not None:
            return True
        selecting = [
            spec
            for spec in self._policies
            if direction in spec["policyTypes"] and matches(spec["podSelector"], pod.labels)
        ]
        side = "from" if direction == "Ingress" else "to"
        return not selecting or any(
            _has_port(rule, target, port, protocol)
            and (side not in rule or any(self._is_peer(peer, other) for peer in rule[side]))
            for spec in selecting
            for rule in spec.get(direction.lower(), [])
        )

    def _is_peer(self, selector: dict[str, Any], peer: Peer) -> bool:
        if (block := selector.get("ipBlock")) is not None:
            return peer.address is not None and is_in_block(block, peer.address)
        if peer.address is not None:
            return False
        namespaces = selector.get("namespaceSelector")
        if namespaces is None:
            in_namespace = peer.namespace == self._namespace
        else:
            in_namespace = matches(namespaces, {"kubernetes.io/metadata.name": peer.namespace})
        return in_namespace and matches(selector.get("podSelector", {}), peer.labels)


def matches(selector: dict[str, Any], labels: Labels) -> bool:
    """Return whether a selector with `matchLabels` only selects these labels."""
    unknown = set(selector) - {"matchLabels"}
    if unknown:
        raise ValueError(f"selectors with {unknown} are not evaluated")
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_in_block(block: dict[str, Any], address: str) -> bool:
    """Return whether an address is in a block, and not in one of its exceptions."""
    ip = ip_address(address)
    return ip in ip_network(block["cidr"]) and not any(
        ip in ip_network(exception) for exception in block.get("except", [])
    )


def _has_port(rule: dict[str, Any], target: Peer, port: int, protocol: str) -> bool:
    return "ports" not in rule or any(
        one.get("protocol", "TCP") == protocol
        and target.ports.get(str(one["port"]), one["port"]) == port
        for one in rule["ports"]
    )
