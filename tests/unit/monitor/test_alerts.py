"""Alert rules and files of rules."""

import re
from pathlib import Path

import pytest
import yaml

from maxgate.errors import ConfigurationError
from maxgate.monitor.alerts import DESIGN_RULES, Alert, AlertTracker, Rule, load_rules
from tests.conftest import ROOT

SLOW = Rule.model_validate({"metric": "gateway.ttft_p95", "above": 0.5, "for": 10})
DOWN = Rule(metric="gateway.up", below=1, severity="critical")


def test_alert_fires_after_its_duration() -> None:
    """An alert fires after its duration and stops with the first good value."""
    tracker = AlertTracker([SLOW])
    alerts = [
        tracker.update(at, {"gateway.ttft_p95": value})
        for at, value in ((0, 0.9), (9, 0.8), (10, 0.7), (11, 0.5), (12, 0.9))
    ]
    assert alerts == [[], [], [Alert(SLOW, 0.7, 0)], [], []]


def test_unknown_metric() -> None:
    """An unknown metric violates no rule."""
    assert AlertTracker([SLOW, DOWN]).update(0, {}) == []


def test_critical_alerts_first() -> None:
    """Critical alerts are listed before warnings."""
    rules = [SLOW.model_copy(update={"duration": 0}), DOWN]
    alerts = AlertTracker(rules).update(0, {"gateway.ttft_p95": 1, "gateway.up": 0})
    assert [alert.rule for alert in alerts] == [DOWN, rules[0]]


@pytest.mark.parametrize("key", ["metric", "number"])
def test_rules_file(tmp_path: Path, key: str) -> None:
    """A file of rules is read, also with the old key `number`."""
    path = tmp_path / "rules.yaml"
    path.write_text(
        "rules:\n"
        f"- {{{key}: gateway.ttft_p95, above: 0.5, for: 10}}\n"
        f"- {{{key}: gateway.up, below: 1, severity: critical}}\n"
    )
    assert load_rules(path) == (SLOW, DOWN)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rules: [", "rules.yaml, line 1: not valid YAML"),
        ("[]", "expected a list of rules under `rules:`"),
        ("", "expected a list of rules under `rules:`"),
        ("rules: [{above: 1}]", "rule 1, metric: Field required"),
        ("rules: [{metrc: gateway.up, above: 1}]", "rule 1, metrc: Extra inputs"),
        ("rules: [{metric: gateway.ttft, above: 1}]", "metric: unknown metric 'gateway.ttft'"),
        ("rules: [{number: gateway.ttft, above: 1}]", "number: unknown metric 'gateway.ttft'"),
        ("rules: [{metric: max.up, number: max.up, above: 1}]", "number: Extra inputs"),
        ("rules: [{metric: gateway.up}]", "rule 1: give either `above` or `below`"),
        ("rules: [{metric: gateway.up, above: 1, below: 2}]", "give either `above` or `below`"),
        ("rules: [{metric: gateway.up, above: high}]", "rule 1, above: Input should be"),
        ("rules: [{metric: gateway.up, above: 1, fore: 3}]", "rule 1, fore: Extra inputs"),
        ("rules: [7]", "rule 1: Input should be"),
    ],
)
def test_invalid_rules_file(tmp_path: Path, content: str, message: str) -> None:
    """An invalid file is reported in one line with the file, rule and field."""
    path = tmp_path / "rules.yaml"
    path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        load_rules(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_rules_file(tmp_path: Path) -> None:
    """A missing file is a configuration error."""
    with pytest.raises(ConfigurationError, match="No such file"):
        load_rules(tmp_path / "rules.yaml")


def test_design_rules_on_a_healthy_gateway() -> None:
    """The rules of the design raise no alert on a healthy gateway."""
    healthy = {
        "gateway.up": 1.0,
        "engines.healthy": 1.0,
        "gateway.error_share": 0.0,
        "max.kv_used": 0.5,
    }
    assert AlertTracker(DESIGN_RULES).update(100, healthy) == []


def test_documented_rules(tmp_path: Path) -> None:
    """The example in docs/monitoring.md is a valid file of rules."""
    page = (ROOT / "docs" / "monitoring.md").read_text()
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    path = tmp_path / "rules.yaml"
    path.write_text(example[1])
    assert len(load_rules(path)) == len(yaml.safe_load(example[1])["rules"]) == 2
