"""Rules that every pod of every overlay follows."""

import re
from typing import Any

import pytest
import yaml

from maxgate import __version__
from maxgate.app import create_app
from maxgate.settings import Settings
from tests.fakes.manifests import (
    FOLDER,
    OVERLAYS,
    POD_NAMES,
    ROOT,
    Pods,
    find,
    find_pods,
    list_pods,
    render,
    select,
)

CLUSTERS = ("staging", "production")
DOCUMENTED = {"staging": {("Secret", "maxgate")}}
"""Objects that the operator creates: docs/kubernetes.md."""


@pytest.fixture(params=[(overlay, name) for overlay in OVERLAYS for name in POD_NAMES[overlay]])
def pods(request: pytest.FixtureRequest) -> Pods:
    """The pods of one owner in one overlay."""
    overlay, name = request.param
    return find_pods(overlay, name)


def test_all_pods() -> None:
    """These tests know all pods."""
    names = {
        overlay: tuple(sorted(one.name.partition("-0")[0] for one in list_pods(overlay)))
        for overlay in OVERLAYS
    }
    assert names == {overlay: tuple(sorted(POD_NAMES[overlay])) for overlay in OVERLAYS}


def test_resources(pods: Pods) -> None:
    """Containers request CPU, memory and disk, limit the last two, and never their CPU."""
    for container in pods.containers:
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert set(requests) == {"cpu", "memory", "ephemeral-storage"}
        assert (
            {"memory", "ephemeral-storage"}
            <= set(limits)
            <= {
                "memory",
                "ephemeral-storage",
                "nvidia.com/gpu",
            }
        )


def test_security(pods: Pods) -> None:
    """Containers have no privileges; only MAX, whose image needs it, is root and writes to disk."""
    assert pods.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pods.containers:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        is_locked_down = (
            pods.spec["securityContext"].get("runAsNonRoot", False),
            context.get("readOnlyRootFilesystem", False),
        )
        assert is_locked_down == ((False, False) if pods.name == "max" else (True, True))


def test_identity(pods: Pods) -> None:
    """Pods have an account of their own without rights, and no token of the cluster."""
    account = find(pods.overlay, "ServiceAccount", pods.spec["serviceAccountName"])
    assert pods.spec["automountServiceAccountToken"] is False
    assert account["automountServiceAccountToken"] is False
    assert pods.spec["enableServiceLinks"] is False
    assert not select(pods.overlay, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")


def test_host(pods: Pods) -> None:
    """Nothing of the node is used: no path, network, processes or ports."""
    assert not [volume for volume in pods.spec["volumes"] if "hostPath" in volume]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pods.spec)
    ports = [port for container in pods.containers for port in container.get("ports", [])]
    assert not [port for port in ports if "hostPort" in port]


def test_images(pods: Pods) -> None:
    """Images have a version, that of this gateway or of the MAX that it is tested with."""
    versions = {
        "maxgate/gateway": __version__,
        "maxgate/max-cpu": "26.7",
        "modular/max-nvidia-full": "26.7",
    }
    for container in pods.containers:
        name, _, version = container["image"].partition(":")
        assert version == versions[name]


def test_disks(pods: Pods) -> None:
    """Temporary volumes have a limit, and together fit into that of the container."""
    sizes = [
        to_bytes(volume["emptyDir"]["sizeLimit"])
        for volume in pods.spec["volumes"]
        if "emptyDir" in volume and volume["emptyDir"].get("medium") != "Memory"
    ]
    (container,) = pods.containers
    assert sum(sizes) <= to_bytes(container["resources"]["limits"]["ephemeral-storage"])


def test_probes(pods: Pods) -> None:
    """Servers have all three probes; the one that kills a gateway does not depend on engines."""
    if pods.owner["kind"] == "Job":
        return
    (container,) = pods.containers
    paths = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness")]
    is_gateway = pods.name == "gateway"
    assert paths == (["/health/live"] * 2 if is_gateway else ["/health"] * 2)
    ready = container["readinessProbe"]["httpGet"]["path"]
    assert ready == ("/health/ready" if is_gateway else "/health")


def test_start_of_engines() -> None:
    """The first start of MAX may take an hour."""
    for overlay in OVERLAYS:
        (container,) = find_pods(overlay, "max").containers
        probe = container["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 3600


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_shutdown(overlay: str) -> None:
    """Pods live longer than their last stream: the pause before, the drain, and a reserve."""
    gateway, engine = find_pods(overlay, "gateway"), find_pods(overlay, "max")
    settings = read_config(overlay, "gateway", "maxgate.yaml")
    drains = (
        settings["server"]["shutdown_timeout"],
        int(engine.read_env()["MAX_SERVE_GRACEFUL_SHUTDOWN_TIMEOUT_S"]),
    )
    for pods, drain in zip((gateway, engine), drains, strict=True):
        (container,) = pods.containers
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pause >= 10  # upstream.dns_interval, and the news of the pod's end
        assert pods.spec["terminationGracePeriodSeconds"] >= pause + drain + 10


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors(overlay: str) -> None:
    """Services, budgets and monitors select something, and each port exists."""
    pods = list_pods(overlay)
    for service in select(overlay, "Service"):
        (found,) = select_pods(pods, service["spec"]["selector"])
        names = {port["name"] for c in found.containers for port in c["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for budget in select(overlay, "PodDisruptionBudget"):
        assert select_pods(pods, budget["spec"]["selector"]["matchLabels"])
    for owner in select(overlay, "Deployment", "StatefulSet"):
        assert (
            owner["spec"]["selector"]["matchLabels"].items()
            <= dict(owner["spec"]["template"]["metadata"]["labels"]).items()
        )
    for monitor in select(overlay, "ServiceMonitor"):
        labels = monitor["spec"]["selector"]["matchLabels"].items()
        (service,) = [
            one for one in select(overlay, "Service") if labels <= one["metadata"]["labels"].items()
        ]
        ports = {port["name"] for port in service["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports
        assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] in {"maxgate", "max"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_references(overlay: str) -> None:
    """ConfigMaps, Secrets, claims, Services and scale targets exist, or the operator makes them."""
    existing = {(one["kind"], one["metadata"]["name"]) for one in render(overlay)}
    existing |= {
        ("Secret", one["spec"]["target"]["name"]) for one in select(overlay, "ExternalSecret")
    }
    missing = {
        reference
        for pods in list_pods(overlay)
        for reference in list_references(pods)
        if reference not in existing
    }
    for scaler in select(overlay, "ScaledObject", "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        missing |= {(target["kind"], target["name"])} - existing
    for route in select(overlay, "HTTPRoute"):
        backends = {
            ("Service", one["name"]) for r in route["spec"]["rules"] for one in r["backendRefs"]
        }
        missing |= backends - existing
    assert missing == DOCUMENTED.get(overlay, set())
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    assert all(f"`{name}`" in text or f" {name} " in text for _, name in missing)


@pytest.mark.parametrize("overlay", CLUSTERS)
def test_one_owner_of_replicas(overlay: str) -> None:
    """Autoscaled workloads set no number of replicas, which the next `apply` would restore."""
    scaled = [
        one["spec"]["scaleTargetRef"]
        for one in select(overlay, "ScaledObject", "HorizontalPodAutoscaler")
    ]
    owners = [find(overlay, one["kind"], one["name"]) for one in scaled]
    assert [("replicas" in owner["spec"]) for owner in owners] == [False, False]


@pytest.mark.parametrize("overlay", CLUSTERS)
def test_migration(overlay: str) -> None:
    """Each version has a Job of its own, which runs the image of the gateway."""
    job, gateway = find(overlay, "Job", "db-upgrade"), find_pods(overlay, "gateway")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert job["metadata"]["name"] == f"db-upgrade-{__version__}"
    assert container["image"] == gateway.containers[0]["image"]
    assert container["args"] == ["db", "upgrade"]


def test_ledger() -> None:
    """Where usage is billed, its spool is on a volume that outlives the pod and the scale-in."""
    gateway = find("production", "StatefulSet", "gateway")
    (container,) = gateway["spec"]["template"]["spec"]["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    claims = [one["metadata"]["name"] for one in gateway["spec"]["volumeClaimTemplates"]]
    assert (mounts["/var/lib/maxgate"], claims) == ("state", ["state"])
    assert gateway["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Retain"


@pytest.mark.parametrize("overlay", CLUSTERS)
def test_scaling_of_engines(overlay: str) -> None:
    """An idle engine lives longer than a start takes, and a broken query is no idle model."""
    spec = find(overlay, "ScaledObject", "max")["spec"]
    expected = int(find_pods(overlay, "gateway").read_env()["MAXGATE_SWAP__SCALE_UP_TIME"])
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert min(spec["cooldownPeriod"], down["stabilizationWindowSeconds"]) > 2 * expected
    assert {one["metadata"]["ignoreNullValues"] for one in spec["triggers"]} == {"false"}
    assert spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]


@pytest.mark.parametrize("overlay", CLUSTERS)
def test_route(overlay: str) -> None:
    """The route has no timeout that would cut a stream, and publishes what nginx publishes."""
    (rule,) = find(overlay, "HTTPRoute", "gateway")["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    configuration = (ROOT / "deploy" / "nginx" / "nginx.conf").read_text()
    (names,) = re.findall(r"location ~ \^/\(\?:([a-z|]+)\)", configuration)
    exact = re.findall(r"location = (/health/\w+) \{\n +auth_request", configuration)
    assert [(one["path"]["type"], one["path"]["value"]) for one in rule["matches"]] == [
        *(("PathPrefix", f"/v1/{name}") for name in names.split("|")),
        *(("PathPrefix", f"/{name}") for name in names.split("|")),
        *(("Exact", path) for path in exact),
    ]


def test_routes_of_models() -> None:
    """The route publishes every path under /v1 but the admin API, and no other API."""
    (rule,) = find("production", "HTTPRoute", "gateway")["spec"]["rules"]
    prefixes = [one["path"]["value"] for one in rule["matches"]]
    paths = create_app(Settings()).openapi()["paths"]
    published = {path for path in paths if any(is_below(path, prefix) for prefix in prefixes)}
    assert published == {
        *(path for path in paths if is_below(path, "/v1")),
        *("/health/live", "/health/ready"),
    } - {path for path in paths if is_below(path, "/v1/organization")}


def is_below(path: str, prefix: str) -> bool:
    """Return whether a path matches a prefix as the Gateway API compares them, by segments."""
    return f"{path}/".startswith(f"{prefix}/")


def test_copied_files() -> None:
    """Files that kustomize cannot take from elsewhere are equal to their sources."""
    base = FOLDER / "base"
    pairs = [("max_config.yaml", ROOT), ("llama-3.3-8b-instruct.yaml", ROOT / "models")]
    copies = {name: (base / name).read_text() for name, _ in pairs}
    assert copies == {name: (source / name).read_text() for name, source in pairs}


def test_batch_size() -> None:
    """The gateway's slots are MAX's batch, and the autoscaler keeps a quarter of it free."""
    settings = read_config("production", "gateway", "maxgate.yaml")
    batch = read_config("production", "max", "max_config.yaml")["runtime"]["max_batch_size"]
    trigger = find("production", "ScaledObject", "max")["spec"]["triggers"][0]
    assert (settings["admission"]["slots"], trigger["metadata"]["threshold"]) == (
        batch,
        str(batch * 3 // 4),
    )


def to_bytes(quantity: str) -> int:
    """Convert a quantity such as 512Mi."""
    units = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
    return int(quantity[:-2]) * units[quantity[-2:]]


def select_pods(pods: list[Pods], labels: dict[str, str]) -> list[Pods]:
    """Return the pods with these labels."""
    return [one for one in pods if labels.items() <= one.labels.items()]


def read_config(overlay: str, name: str, key: str) -> Any:
    """Return a YAML file in a ConfigMap."""
    return yaml.safe_load(find(overlay, "ConfigMap", name)["data"][key])


def list_references(pods: Pods) -> list[tuple[str, str]]:
    """Return kind and name of every object that the pods mount or read."""
    fields = {
        "configMap": ("ConfigMap", "name"),
        "secret": ("Secret", "secretName"),
        "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
    }
    references = [
        (kind, volume[field][name])
        for volume in pods.spec["volumes"]
        for field, (kind, name) in fields.items()
        if field in volume
    ]
    for container in pods.containers:
        claims = {
            one["metadata"]["name"] for one in pods.owner["spec"].get("volumeClaimTemplates", [])
        }
        volumes = {volume["name"] for volume in pods.spec["volumes"]} | claims
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert not [one for one in container["env"] if "valueFrom" in one]
    return references
