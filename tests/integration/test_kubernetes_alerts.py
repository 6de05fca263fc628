"""Every alert of the Kubernetes manifests fires, by `promtool`, and stays silent otherwise."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes.manifests import select

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus"
)

CALM = {
    'maxgate_workers{namespace="maxgate"}': "1x40",
    'maxgate_queue_length{namespace="maxgate"}': "3x40",
    'maxgate_engine_up{namespace="maxgate", engine="http://a"}': "1x40",
    'kube_pod_container_status_restarts_total{namespace="maxgate", container="max"}': "2x40",
}
FIRING = 'alertstate="firing"'
PROBLEMS = {
    "MaxgateNotScraped": ('maxgate_workers{namespace="maxgate"}', "1x2 stale"),
    "MaxgateRequestsWithoutEngine": (
        'maxgate_engine_up{namespace="maxgate", engine="http://a"}',
        "1x2 0x40",
    ),
    "MaxgateEngineRestarts": (
        'kube_pod_container_status_restarts_total{namespace="maxgate", container="max"}',
        "0+1x40",
    ),
}


def build_test(problem: str | None) -> dict[str, Any]:
    """Return a test in which one alert fires after 30 minutes, or none."""
    series, firing = dict(CALM), {"labels": f'{{alertname="{problem}"}}', "value": 1}
    if problem is not None:
        name, values = PROBLEMS[problem]
        series[name] = values
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": one} for name, one in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count by (alertname) (ALERTS{{{FIRING}, alertname="{alert}"}})',
                "eval_time": "30m",
                "exp_samples": [firing] if alert == problem else [],
            }
            for alert in PROBLEMS
        ],
    }


def test_alerts(tmp_path: Path) -> None:
    """Each problem raises its own alert, and a calm cluster none."""
    groups = [
        group
        for rule in select("production", "PrometheusRule")
        for group in rule["spec"]["groups"]
        if group["name"] == "maxgate-kubernetes"
    ]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    assert alerts == set(PROBLEMS)
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    tests = [build_test(problem) for problem in (None, *PROBLEMS)]
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(document))
    ended = subprocess.run(
        ["promtool", "test", "rules", "tests.yml"],  # noqa: S607
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
