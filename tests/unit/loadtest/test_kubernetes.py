"""The Kubernetes manifests of the load test."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from maxgate.loadtest.cli import main
from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "kubernetes" / "loadtest"


def container(manifest: str) -> Any:
    """The container of this Job."""
    job = yaml.safe_load((FOLDER / manifest).read_text())
    (found,) = job["spec"]["template"]["spec"]["containers"]
    return found


def test_job_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The flags of the Job are valid: only the server is missing."""
    values = {
        "http://gateway:8000": "http://127.0.0.1:9",
        "$(JOB_COMPLETION_INDEX)": "3",
        "${START_AT}": "2030-01-31T12:00:00Z",
        "/results": str(tmp_path),
    }
    flags = container("job.yaml")["args"]
    for name, value in values.items():
        flags = [flag.replace(name, value) for flag in flags]
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("load_test.py: cannot reach http://127.0.0.1:9: ")


@pytest.mark.parametrize("manifest", ["job.yaml", "merge.yaml"])
def test_image(manifest: str) -> None:
    """The image name is the one that the Dockerfile documents."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"docker build --target tools -t {container(manifest)['image']} ." in dockerfile
    (copied,) = (line for line in dockerfile.splitlines() if line.startswith("COPY load_test.py"))
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied.split()[1:-1]} <= set(sent)
