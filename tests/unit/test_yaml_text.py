"""YAML that people write: what it may hold, and errors that name the line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maxgate.auth.key_file import read_key_file
from maxgate.control_plane.changes_file import ChangesFile
from maxgate.errors import ConfigurationError
from maxgate.loadtest.messages import TraceOptions
from maxgate.loadtest.scenarios.files import read_scenario
from maxgate.model_cards.loader import load_cards
from maxgate.monitor.alerts import load_rules
from maxgate.yaml_text import MAX_DEPTH, parse_yaml

# Each line has ten times the values of the one before it.
BOMB = "a0: &a0 [1]\n" + "\n".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)
)
CHAIN = "a0: &a0 [1]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, MAX_DEPTH))


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("", None),
        ("a: {b: [1, x]}", {"a": {"b": [1, "x"]}}),
        ("a: '*'", {"a": "*"}),
        ("base: &base {b: 1}\nc: {<<: *base, d: 2}", {"base": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("<<: {a: 1}\na: 2", {"a": 2}),
    ],
)
def test_content(text: str, content: Any) -> None:
    """Nested values, aliases and merged fields are read."""
    assert parse_yaml(text, "a.yaml") == content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "a.yaml, line 3: 'a' twice"),
        ("? [a]\n: b", "a.yaml, line 1: a field without a name"),
        ("a:\n\tb: 1", "a.yaml, line 2: not valid YAML"),
        ("a: !secret s3cret", "a.yaml, line 1: not valid YAML"),
        ("a: *s3cret", "a.yaml, line 1: not valid YAML"),
        ("--- a\n--- b", "a.yaml, line 2: not valid YAML"),
        ("- " * 100_000, "a.yaml: nested too deeply"),
        ("{a: " * 100_000, "a.yaml: nested too deeply"),
        ("&a [*a]", "a.yaml: nested too deeply"),
        (CHAIN, "a.yaml: nested too deeply"),
        (BOMB, "a.yaml: aliases stand for more than 1,000,000 values"),
        ("a: 2026-13-01", "a.yaml: not valid YAML"),
        ("a: !!int ''", "a.yaml: not valid YAML"),
        ("a: !!bool s3cret", "a.yaml: not valid YAML"),
        ("a: !!timestamp s3cret", "a.yaml: not valid YAML"),
        ("a: " + "9" * 6000, "a.yaml: not valid YAML"),
    ],
)
def test_invalid(text: str, message: str) -> None:
    """The error names the line and the rule, and never a value."""
    with pytest.raises(ConfigurationError) as caught:
        parse_yaml(text, "a.yaml")

    assert str(caught.value) == message


@pytest.mark.parametrize(
    "read",
    [
        lambda file: load_cards([file]),
        load_rules,
        lambda file: read_scenario(file, None, TraceOptions()),
        read_key_file,
        lambda file: ChangesFile(file.parent, "a").load(),
    ],
    ids=["card", "alerts", "scenario", "keys", "changes of engines"],
)
def test_readers(read: Callable[[Path], object], tmp_path: Path) -> None:
    """Every reader of a file reports deep nesting as an error of that file."""
    file = tmp_path / "engines.yaml"
    file.write_text("- " * 10_000)

    with pytest.raises(ConfigurationError, match=r"engines\.yaml: nested too deeply"):
        read(file)
