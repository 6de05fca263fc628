"""Flags as environment variables."""

import os
from pathlib import Path

import pytest

from maxgate.cli.options import export_flags


def read_variables() -> dict[str, str]:
    """Return the settings in the environment."""
    return {n: v for n, v in os.environ.items() if n.upper().startswith("MAXGATE_") and v}


def test_export_flags() -> None:
    """Lists are comma-separated, and paths are absolute, since workers may start elsewhere."""
    export_flags(
        {
            "server.port": 1,
            "server.host": None,
            "engines": ["http://a", "http://b"],
            "cards": [Path("x.yaml")],
        }
    )
    assert read_variables() == {
        "MAXGATE_SERVER__PORT": "1",
        "MAXGATE_ENGINES": "http://a,http://b",
        "MAXGATE_CARDS": str(Path.cwd() / "x.yaml"),
    }


@pytest.mark.parametrize(
    "variable", ["MAXGATE_PORT", "maxgate_port", "maxgate_server__port", "Maxgate_Server__Port"]
)
def test_other_spellings(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A flag replaces the variable of its setting in lower case and by its old name."""
    monkeypatch.setenv(variable, "1")
    export_flags({"server.port": 2})
    assert read_variables() == {"MAXGATE_SERVER__PORT": "2"}


def test_location_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """--config replaces the variable in lower case."""
    monkeypatch.setenv("maxgate_config", "a.yaml")
    export_flags({"config": "b.yaml"})
    assert read_variables()["MAXGATE_CONFIG"] == "b.yaml"
    assert "maxgate_config" not in os.environ


@pytest.fixture(autouse=True)
def _restore_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAXGATE_SERVER__PORT", "MAXGATE_ENGINES", "MAXGATE_CARDS", "MAXGATE_CONFIG"):
        monkeypatch.setenv(name, "")
