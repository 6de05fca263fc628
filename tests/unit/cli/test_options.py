"""Flags as environment variables."""

import os
from pathlib import Path

import pytest

from maxgate.cli.options import export_flags


def read_variables() -> dict[str, str]:
    """Return the settings in the environment."""
    return {n: v for n, v in os.environ.items() if n.startswith("MAXGATE_") and v}


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


def test_old_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag replaces the variable of the setting's old name."""
    monkeypatch.setenv("MAXGATE_PORT", "1")
    export_flags({"server.port": 2})
    assert read_variables() == {"MAXGATE_SERVER__PORT": "2"}


@pytest.fixture(autouse=True)
def _restore_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAXGATE_SERVER__PORT", "MAXGATE_ENGINES", "MAXGATE_CARDS"):
        monkeypatch.setenv(name, "")
