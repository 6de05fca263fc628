"""Every object is valid by the schema of its kind."""

import copy
import json
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.clients.programs import NODE
from tests.fakes.manifests import FOLDER, OVERLAYS, ROOT, find, render

BUILT_IN = {
    "apps/v1",
    "autoscaling/v2",
    "batch/v1",
    "networking.k8s.io/v1",
    "policy/v1",
    "v1",
}
VERSION = kubernetes_validate.latest_version()


def validate_custom(objects: list[dict[str, Any]]) -> list[list[str]]:
    """Return the errors of each custom resource."""
    program = ROOT / "tests" / "clients" / "kubernetes.mjs"
    ended = subprocess.run(
        [NODE, program], input=json.dumps(objects), check=True, capture_output=True, text=True
    )
    errors: list[list[str]] = json.loads(ended.stdout)
    return errors


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_built_in_objects(overlay: str) -> None:
    """Objects of Kubernetes itself are valid, without an unknown field."""
    objects = [one for one in render(overlay) if one["apiVersion"] in BUILT_IN]
    for one in objects:
        kubernetes_validate.validate(one, VERSION, strict=True)
    assert len(objects) >= 15


def test_custom_resources() -> None:
    """Custom resources of all overlays are valid, without an unknown field."""
    objects = [
        one for overlay in OVERLAYS for one in render(overlay) if one["apiVersion"] not in BUILT_IN
    ]
    errors = dict(zip(map(describe, objects), validate_custom(objects), strict=True))
    assert errors == {describe(one): [] for one in objects}
    assert {one["kind"] for one in objects} == {
        "ExternalSecret",
        "HTTPRoute",
        "PrometheusRule",
        "ScaledObject",
        "ServiceMonitor",
    }


def test_broken_resources() -> None:
    """The check finds a wrong value, a missing field and an unknown one."""
    wrong, missing, unknown = (
        copy.deepcopy(find("production", "ScaledObject", "max")) for _ in range(3)
    )
    wrong["spec"]["cooldownPeriod"] = "900 s"
    del missing["spec"]["triggers"]
    unknown["spec"]["triggers"][0]["metricsType"] = "AverageValue"
    errors = validate_custom([wrong, missing, unknown])
    assert ["cooldownPeriod" in errors[0][0], "triggers" in errors[1][0], errors[2]] == [
        True,
        True,
        ["unknown field /spec/triggers/0/metricsType"],
    ]


def test_load_test_jobs() -> None:
    """The objects of the distributed load test are valid."""
    files = sorted((FOLDER / "loadtest").glob("*.yaml"))
    objects = [one for file in files for one in yaml.safe_load_all(file.read_text())]
    for one in objects:
        if one["kind"] != "Kustomization":  # is no object of the cluster
            kubernetes_validate.validate(one, VERSION, strict=True)
    assert sorted(one["kind"] for one in objects) == [
        *("Job", "Job", "Kustomization", "NetworkPolicy", "NetworkPolicy", "PersistentVolumeClaim")
    ]


def describe(one: dict[str, Any]) -> str:
    """Return kind and name."""
    return f"{one['kind']}/{one['metadata']['name']}"
