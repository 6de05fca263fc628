"""Settings: their sources, precedence and old names."""

import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from textwrap import dedent

import pytest

from maxgate.settings import Settings, setting_names
from maxgate.settings_names import OLD_NAMES, to_name, to_variable
from maxgate.upstream.settings import ReplicaSettings
from tests.conftest import ROOT
from tests.fakes.setting_sources import PORT, SOURCES, list_fields, load, read_error

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize(("high", "low"), list(combinations(SOURCES, 2)))
def test_precedence(high: str, low: str, set_port: Callable[[str, int], None]) -> None:
    """Each source overrides all those after it."""
    set_port(low, 1)
    set_port(high, 2)
    assert load() == (Settings(server={"port": 2}), [])


@pytest.mark.parametrize("source", SOURCES)
def test_source(source: str, set_port: Callable[[str, int], None]) -> None:
    """Each source is read, and settings that it does not have keep their defaults."""
    set_port(source, 8000)
    assert load() == (Settings(), [])


def test_merge(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Sections are merged setting by setting; lists are replaced as a whole."""
    (folder / "maxgate.yaml").write_text(
        "upstream: {idle_timeout: 7, probe_timeout: 8}\nengines: [http://a, http://b]\n"
    )
    monkeypatch.setenv("MAXGATE_UPSTREAM__IDLE_TIMEOUT", "9")
    monkeypatch.setenv("MAXGATE_ENGINES", "http://c")
    upstream = {"idle_timeout": 9, "probe_timeout": 8}
    assert load() == (Settings(upstream=upstream, engines=["http://c"]), [])


@pytest.mark.parametrize(
    "value", ["http://a:1, http://b:2", '["http://a:1", {"url": "http://b:2"}]']
)
def test_lists_in_variables(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A variable has a list as comma-separated values or as JSON."""
    monkeypatch.setenv("MAXGATE_ENGINES", value)
    monkeypatch.setenv("MAXGATE_CARDS", "x.yaml,models")
    settings, _ = load()
    assert settings.engines == [
        ReplicaSettings(url="http://a:1"),
        ReplicaSettings(url="http://b:2"),
    ]
    assert settings.cards == [Path("x.yaml"), Path("models")]


def test_lists_in_files(folder: Path) -> None:
    """An item of `engines` is a URL or a mapping."""
    (folder / "maxgate.yaml").write_text("engines:\n  - http://a:1\n  - url: http://b:2\n")
    assert load()[0] == Settings(engines=["http://a:1", "http://b:2"])


def test_lists_in_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list in a section may be comma-separated or JSON in a variable."""
    monkeypatch.setenv("MAXGATE_SERVER__CORS_ORIGINS", "http://a, http://b")
    monkeypatch.setenv("MAXGATE_SERVER__ALLOWED_HOSTS", '["a.example"]')
    server = load()[0].server
    assert (server.cors_origins, server.allowed_hosts) == (["http://a", "http://b"], ["a.example"])


@pytest.mark.parametrize("url", ["http://a:1/v1", "http://a:1/v1/", "http://a:1/"])
def test_engine_url_with_version(url: str) -> None:
    """`/v1`, which other clients need in the URL, is removed."""
    assert Settings(engines=[url]).engines[0].url == "http://a:1"


def test_empty_section(folder: Path) -> None:
    """A section without settings keeps its defaults."""
    (folder / "maxgate.yaml").write_text("server:\n  # port: 1\ncards: []\n")
    assert load() == (Settings(), [])


OPTIONAL = {name for name, field in list_fields().items() if field.default in (None, [])}


@pytest.mark.parametrize("source", SOURCES[1:-1])
@pytest.mark.parametrize("name", sorted(OPTIONAL))
def test_empty_optional_setting(
    set_value: Callable[[str, str, object], None], source: str, name: str
) -> None:
    """In every source, an empty value unsets a setting that is optional or a list."""
    set_value(source, name, "")
    assert load() == (Settings(), [])


@pytest.mark.parametrize("source", SOURCES[1:-1])
@pytest.mark.parametrize("name", sorted({*setting_names()} - OPTIONAL))
def test_empty_setting(
    set_value: Callable[[str, str, object], None], source: str, name: str
) -> None:
    """All other settings reject an empty value."""
    set_value(source, name, "")
    assert read_error().endswith(
        f"setting {name}: the value is empty; leave the setting out to use its default"
    )


def test_empty_value_overrides(set_value: Callable[[str, str, object], None]) -> None:
    """An empty value overrides the sources of lower precedence."""
    set_value("file", "telemetry.metrics_dir", "/m")
    set_value("environment", "telemetry.metrics_dir", "")
    assert load() == (Settings(), [])


def test_other_programs(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Variables and secrets of other programs are ignored, even if they are not text."""
    monkeypatch.setenv("SERVER__PORT", "1")
    (folder / ".env").write_text("export PORT=1\nHF_TOKEN='a b'\n# MAXGATE_PROT=1\nNOTHING\n")
    (folder / "secrets" / "postgres").write_bytes(b"\xff")
    (folder / "secrets" / "folder").mkdir()
    assert load() == (Settings(), [])


def test_locations(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """MAXGATE_CONFIG and MAXGATE_ENV_FILE replace the default files; empty, they disable them."""
    (folder / "maxgate.yaml").write_text("server: {port: 1}")
    (folder / ".env").write_text("MAXGATE_SERVER__HOST=default")
    (folder / "other.yaml").write_text("server: {port: 2}")
    (folder / "other.env").write_text("MAXGATE_SERVER__HOST=other")
    monkeypatch.setenv("MAXGATE_CONFIG", "other.yaml")
    monkeypatch.setenv("MAXGATE_ENV_FILE", "other.env")
    assert load()[0] == Settings(server={"port": 2, "host": "other"})
    monkeypatch.setenv("MAXGATE_CONFIG", "")
    monkeypatch.setenv("MAXGATE_ENV_FILE", "")
    assert load()[0] == Settings()


def test_locations_in_lower_case(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Like all variables, those that locate the sources may be in lower case."""
    (folder / "other.yaml").write_text("server: {port: 2}")
    monkeypatch.setenv("maxgate_config", "other.yaml")
    assert load() == (Settings(server={"port": 2}), [])


@pytest.mark.parametrize("content", ["max:", "max: {}", "max:\nengine: {mode: none}"])
def test_empty_old_section(folder: Path, content: str) -> None:
    """An old section without settings is accepted, with a warning."""
    (folder / "maxgate.yaml").write_text(content)
    warning = "maxgate.yaml: setting max is now engine; the old name goes away in 0.3"
    assert load() == (Settings(), [warning])


VALUES = {
    "host": "h", "engine": "local", "engine_urls": "http://a", "max.card": "c", "max.telemetry": 1,
    "data_dir": "/d", "log_format": "json", "metrics_dir": "/m", "max_body_bytes": 2000,
}  # fmt: skip


def build_expected(new: str, value: object) -> Settings:
    """Return the settings with one value."""
    section, _, name = new.rpartition(".")
    if new == "engines":
        value = [value]
    return Settings(**({section: {name: value}} if section else {name: value}))


@pytest.mark.parametrize(("old", "new"), list(OLD_NAMES.items()))
@pytest.mark.parametrize("source", ["environment", "secrets", "dotenv", "file"])
def test_old_names(
    monkeypatch: pytest.MonkeyPatch, folder: Path, source: str, old: str, new: str
) -> None:
    """In every source, an old name sets the new setting, with one warning."""
    value = VALUES.get(old, 5)
    shown = (to_variable(old), to_variable(new))
    if source == "environment":
        monkeypatch.setenv(to_variable(old), str(value))
        where = ""
    elif source == "secrets":
        (folder / "secrets" / to_variable(old)).write_text(str(value))
        where = f"{folder}/secrets: "
    elif source == "dotenv":
        (folder / ".env").write_text(f"{to_variable(old)}={value}")
        where = ".env: "
    else:
        section, _, name = old.rpartition(".")
        line = f"{name}: {value}"
        (folder / "maxgate.yaml").write_text(f"{section}: {{{line}}}" if section else line)
        where, shown = "maxgate.yaml: ", (old, new)
    warning = f"{where}setting {shown[0]} is now {shown[1]}; the old name goes away in 0.3"
    assert load() == (build_expected(new, value), [warning])


@pytest.mark.parametrize(("old", "new"), list(OLD_NAMES.items()))
def test_old_and_new_variable(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """An old name beside the new one is an error that names both."""
    monkeypatch.setenv(to_variable(old), "1")
    monkeypatch.setenv(to_variable(new), "1")
    old, new = to_variable(old), to_variable(new)
    assert read_error() == (
        f"both {old} and {new} are set; {old} is the old name of {new}: remove it"
    )


def test_old_and_new_in_file(folder: Path) -> None:
    """The same holds in a file."""
    (folder / "maxgate.yaml").write_text("port: 1\nserver: {port: 1}\n")
    assert read_error() == (
        "maxgate.yaml: both port and server.port are set; "
        "port is the old name of server.port: remove it"
    )


def test_old_file(folder: Path) -> None:
    """A file written for the last version works unchanged."""
    text = """
        host: 0.0.0.0
        engine: local
        engine_urls: [http://localhost:1, http://localhost:2]
        max: {card: small, start_timeout: 7}
        upstream: {probe_interval_down: 2, probe_interval: 3}
    """
    (folder / "maxgate.yaml").write_text(dedent(text))
    settings, warnings = load()
    assert settings == Settings(
        server={"host": "0.0.0.0"},
        engine={"mode": "local", "card": "small", "start_timeout": 7},
        engines=["http://localhost:1", "http://localhost:2"],
        upstream={"unhealthy_probe_interval": 2, "probe_interval": 3},
    )
    assert len(warnings) == 6


def test_warnings_are_printed_once() -> None:
    """However often a process loads its settings, each warning is printed once."""
    code = "from maxgate.settings import load_settings; load_settings(); load_settings()"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"MAXGATE_PORT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == (
        "maxgate: warning: setting MAXGATE_PORT is now MAXGATE_SERVER__PORT; "
        "the old name goes away in 0.3\n"
    )


def test_names() -> None:
    """Old names lead to settings that exist, and variables and names convert both ways."""
    names = setting_names()
    assert set(OLD_NAMES.values()) <= set(names)
    assert [to_name(to_variable(name)) for name in names] == names


def test_constructor(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The constructor reads no source, so that code and tests can build settings."""
    monkeypatch.setenv(PORT, "1")
    (folder / "maxgate.yaml").write_text("server: {port: 2}")
    assert Settings().server.port == 8000
