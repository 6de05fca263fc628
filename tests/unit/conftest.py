"""Fixtures of the tests of settings."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from maxgate.cli.options import export_flags
from maxgate.settings_names import LOCATIONS, to_variable
from tests.fakes.setting_sources import PORT


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory, from which the default files are read."""
    monkeypatch.chdir(tmp_path)
    for name in (*LOCATIONS, PORT):
        monkeypatch.setenv(name, "")  # restored after the test, even if a flag replaces it
        monkeypatch.delenv(name)
    (tmp_path / "secrets").mkdir()
    monkeypatch.setenv("MAXGATE_SECRETS_DIR", str(tmp_path / "secrets"))
    return tmp_path


@pytest.fixture
def set_value(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Callable[[str, str, object], None]:
    """Sets a setting in one source."""

    def set_in(source: str, name: str, value: object) -> None:
        variable = to_variable(name)
        if source == "flag":
            export_flags({name: value})
        elif source == "environment":
            monkeypatch.setenv(variable, str(value))
        elif source == "secrets":
            (folder / "secrets" / variable.lower()).write_text(f"{value}\n")
        elif source == "dotenv":
            (folder / ".env").write_text(f"{variable}={value}\n")
        elif source == "file":
            section, _, key = name.rpartition(".")
            content = {section: {key: value}} if section else {key: value}
            (folder / "maxgate.yaml").write_text(json.dumps(content))

    return set_in


@pytest.fixture
def set_port(set_value: Callable[[str, str, object], None]) -> Callable[[str, int], None]:
    """Sets `server.port` in one source."""
    return lambda source, port: set_value(source, "server.port", port)
