"""The Kubernetes manifests, as kustomize renders them."""

import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy" / "kubernetes"
OVERLAYS: Final = ("dev", "staging", "production")
POD_NAMES: Final = {
    "dev": ("gateway", "max"),
    "staging": ("gateway", "max", "db-upgrade"),
    "production": ("gateway", "max", "db-upgrade"),
}
"""Names of the owners of pods, without the version of the Job."""
Manifest = dict[str, Any]


@cache
def render(overlay: str) -> tuple[Manifest, ...]:
    """Return the objects of an overlay."""
    kubectl = Path(sys.executable).with_name("kubectl")
    rendered = subprocess.run(
        [kubectl, "kustomize", FOLDER / "overlays" / overlay], check=True, stdout=subprocess.PIPE
    )
    return tuple(yaml.safe_load_all(rendered.stdout))


def select(overlay: str, *kinds: str) -> list[Manifest]:
    """Return the objects of these kinds."""
    return [one for one in render(overlay) if one["kind"] in kinds]


def find(overlay: str, kind: str, name: str) -> Manifest:
    """Return one object by the beginning of its name."""
    (found,) = [one for one in select(overlay, kind) if one["metadata"]["name"].startswith(name)]
    return found


class Pods(NamedTuple):
    """The pods of a Deployment, StatefulSet or Job."""

    overlay: str
    owner: Manifest
    spec: dict[str, Any]
    labels: Mapping[str, str]

    @property
    def name(self) -> str:
        """Name of the owner."""
        name: str = self.owner["metadata"]["name"]
        return name

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All containers, those that run before the others included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def read_env(self) -> dict[str, str]:
        """Return the variables of the only container."""
        (container,) = self.containers
        return {one["name"]: one["value"] for one in container["env"]}


def list_pods(overlay: str) -> list[Pods]:
    """Return the pods of an overlay."""
    return [
        Pods(
            overlay,
            owner,
            owner["spec"]["template"]["spec"],
            owner["spec"]["template"]["metadata"]["labels"],
        )
        for owner in select(overlay, "Deployment", "StatefulSet", "Job")
    ]


def find_pods(overlay: str, name: str) -> Pods:
    """Return the pods of the owner with this name."""
    (found,) = [pods for pods in list_pods(overlay) if pods.name.startswith(name)]
    return found
