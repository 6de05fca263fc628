"""Rules tell of a number that stays beyond its bound; a file of them says what is wrong in it."""

from pathlib import Path

import pytest

from maxgate.errors import ConfigurationError
from maxgate.monitor.alerts import DEFAULT_RULES, Alert, Alerts, Rule, load_rules

LATE = Rule.model_validate({"number": "gateway.ttft_p95", "above": 0.5, "for": 10})
AWAY = Rule(number="gateway.up", below=1, severity="critical")


def test_an_alert_comes_after_its_time_and_goes_with_its_reason() -> None:
    alerts = Alerts([LATE])
    seen = [
        alerts.update(at, {"gateway.ttft_p95": value})
        for at, value in ((0, 0.9), (9, 0.8), (10, 0.7), (11, 0.5), (12, 0.9))
    ]
    assert seen == [[], [], [Alert(LATE, 0.7, 0)], [], []]


def test_a_number_that_is_not_known_breaks_no_rule() -> None:
    assert Alerts([LATE, AWAY]).update(0, {}) == []


def test_what_is_critical_comes_first() -> None:
    rules = [LATE.model_copy(update={"seconds": 0}), AWAY]
    both = Alerts(rules).update(0, {"gateway.ttft_p95": 1, "gateway.up": 0})
    assert [alert.rule for alert in both] == [AWAY, rules[0]]


def test_a_file_of_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        "rules:\n"
        "- {number: gateway.ttft_p95, above: 0.5, for: 10}\n"
        "- {number: gateway.up, below: 1, severity: critical}\n"
    )
    assert load_rules(path) == (LATE, AWAY)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rules: [", "is not YAML: "),
        ("[]", "expected `rules:` with a list under it"),
        ("", "expected `rules:` with a list under it"),
        ("rules: [{number: gateway.ttft, above: 1}]", "number: there is no number 'gateway.ttft'"),
        ("rules: [{number: gateway.up}]", "rule 1: give one of `above` and `below`"),
        ("rules: [{number: gateway.up, above: 1, below: 2}]", "give one of `above` and `below`"),
        ("rules: [{number: gateway.up, above: high}]", "rule 1, above: Input should be"),
        ("rules: [{number: gateway.up, above: 1, fore: 3}]", "rule 1, fore: Extra inputs"),
        ("rules: [7]", "rule 1: Input should be"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        load_rules(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load_rules(tmp_path / "rules.yaml")


def test_the_rules_that_come_along_are_quiet_when_all_is_well() -> None:
    well = {
        "gateway.up": 1.0,
        "engines.healthy": 1.0,
        "gateway.error_share": 0.0,
        "max.kv_used": 0.5,
    }
    assert Alerts(DEFAULT_RULES).update(100, well) == []
