"""Settings of guardrails."""

import re
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from maxgate.app import create_app
from maxgate.control_plane.reload import ActiveSettings
from maxgate.errors import ConfigurationError
from maxgate.settings import Settings, load_settings
from tests.fakes.gateway import SMALL_CARD
from tests.fakes.guardrails import build_guardrails

RULE = {"name": "a", "kind": "secrets", "action": "block"}
WORDS = {"name": "a", "kind": "words", "action": "block", "words": ["x"]}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"name": "a", "action": "block"}], "`kind` must be pii, secrets"),
        ([{**RULE, "kind": "spam"}], "`kind` must be pii, secrets"),
        ([{**RULE, "words": ["a"]}], "Extra inputs"),
        ([{**RULE, "name": "A b"}], "pattern"),
        ([RULE, RULE], "two rules have the name 'a'"),
        ([{**RULE, "name": f"r{n}"} for n in range(61)], "at most 60 rules"),
        ([{**WORDS, "words": []}], "at least 1 item"),
        ([{**WORDS, "words": [" "]}], "pattern"),
        ([{**WORDS, "kind": "length", "max_characters": 1}], "Extra inputs"),
        (
            [{"name": "a", "kind": "length", "action": "mask", "max_characters": 1}],
            "mask needs a kind that finds passages",
        ),
        (
            [{"name": "a", "kind": "webhook", "action": "block", "url": "ftp://x"}],
            "not a URL",
        ),
        (
            [{"name": "a", "kind": "webhook", "action": "block", "url": "http://u:p@x"}],
            "set token instead",
        ),
        ([{"name": "a", "kind": "pii", "action": "mask", "countries": ["Spain"]}], "pattern"),
    ],
)
def test_invalid(rules: list[dict[str, Any]], message: str) -> None:
    """A rule that cannot work as written is an error."""
    with pytest.raises(ValidationError, match=message):
        Settings(guardrails=rules)  # type: ignore[arg-type]


def test_reload() -> None:
    """A change of rules is shown without their words and tokens."""
    hook = {"name": "b", "kind": "webhook", "action": "log", "url": "http://h", "token": "canary"}
    active = ActiveSettings(Settings(guardrails=[hook, WORDS]))  # type: ignore[list-item]
    changed = [hook, {**WORDS, "words": ["canary"]}]
    [change] = active.compare(Settings(guardrails=changed))  # type: ignore[arg-type]
    assert change.setting == "guardrails"
    assert change.before != change.after
    assert re.sub(r"[0-9a-f]{8}", "#", change.after) == "b (log, #), a (block, #)"


def test_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules may be JSON in a variable, and errors name the rule."""
    monkeypatch.setenv(
        "MAXGATE_GUARDRAILS", '[{"name": "a", "kind": "secrets", "action": "block"}]'
    )
    assert [rule.name for rule in load_settings().guardrails] == ["a"]
    monkeypatch.setenv("MAXGATE_GUARDRAILS", '[{"name": "a", "kind": "spam", "action": "block"}]')
    with pytest.raises(ConfigurationError, match=r"setting guardrails\[0\]: `kind` must be"):
        load_settings()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"kind": "regex", "patterns": ["(a"]}, "missing"),
        ({"kind": "regex", "patterns": [r"(a)\1"]}, "invalid escape"),
        ({"kind": "regex", "patterns": ["(?=a)"]}, r"guardrails\[0\]: rule 'rule'"),
        ({"kind": "regex", "patterns": ["((a{100}){100}){100}"]}, r"guardrails\[0\]"),
        ({"kind": "pii", "countries": ["XX"]}, "national ids of XX are not known"),
        ({"kind": "model", "model": "other"}, "no model card of the name 'other'"),
    ],
)
def test_unusable(rule: dict[str, Any], message: str) -> None:
    """An expression that RE2 refuses, and a model that is not for moderation, prevent the start."""
    with pytest.raises(ConfigurationError, match=message):
        build_guardrails(rule)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules without the packages of the extra prevent the start; the message names it."""
    for name in [name for name in sys.modules if name.startswith("maxgate.guardrails.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "re2", None)
    settings = Settings(cards=[SMALL_CARD], guardrails=[RULE])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="needs the extra `guardrails`"):
        create_app(settings)
