"""Settings: their sources, precedence, old names and error messages."""

import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from textwrap import dedent

import pytest

from maxgate.cli.options import export_flags
from maxgate.errors import ConfigurationError
from maxgate.settings import Settings, load_settings, setting_names
from maxgate.settings_names import LOCATIONS, OLD_NAMES, to_name, to_variable
from maxgate.upstream.settings import ReplicaSettings
from tests.conftest import ROOT

PORT = to_variable("server.port")
SOURCES = ("flag", "environment", "secrets", "dotenv", "file", "default")


@pytest.fixture(autouse=True)
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
def set_port(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Callable[[str, int], None]:
    """Sets `server.port` in one source."""

    def set_in(source: str, port: int) -> None:
        if source == "flag":
            export_flags({"server.port": port})
        elif source == "environment":
            monkeypatch.setenv(PORT, str(port))
        elif source == "secrets":
            (folder / "secrets" / PORT.lower()).write_text(f"{port}\n")
        elif source == "dotenv":
            (folder / ".env").write_text(f"{PORT}={port}\n")
        elif source == "file":
            (folder / "maxgate.yaml").write_text(f"server: {{port: {port}}}\n")

    return set_in


def load() -> tuple[Settings, list[str]]:
    """Load the settings, with the warnings."""
    warnings: list[str] = []
    return load_settings(warnings.append), warnings


def read_error() -> str:
    """Return the one-line error of loading the settings."""
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SERVER__PORT", "x", "setting server.port: Input should be a valid integer"),
        ("SERVER__HOST", "", "setting server.host: String should have at least 1 character"),
        ("SERVER__PORT", "70000", "setting server.port: Input should be less than or equal to"),
        ("SERVER__WORKERS", "0", "setting server.workers: Input should be greater than or equal"),
        ("ENGINE__MODE", "vllm", "setting engine.mode: Input should be 'local', 'docker' or 'none"),
        ("ENGINES", "localhost:80", "setting engines[0].url: 'localhost:80' is not a URL; write"),
        ("ENGINES", "http://", "setting engines[0].url: 'http://' is not a URL"),
        ("ENGINES", "http://a:port", "setting engines[0].url: 'http://a:port' is not a URL"),
        ("ENGINES", "http://a,http://a:99999", "setting engines[1].url: 'http://a:99999' is not a"),
        ("ENGINES", "http://u:secret@a b", "setting engines[0].url: 'http://a b' is not a URL"),
        ("ENGINES", "http://u:p@x@a", "setting engines[0].url: credentials with a literal @"),
        ("ENGINES", '[{"url": "http://a", "ca_file": "x"}]', "setting engines[0]: ca_file needs"),
        (
            "ENGINES",
            '[{"url": "https://a", "ca_file": "/none"}]',
            "setting engines[0]: ca_file '/none': No such file or directory",
        ),
        ("ENGINES", "http://a b", "setting engines[0].url: 'http://a b' is not a URL"),
        ("ENGINES", ",", "setting engines: the list is empty; write http://host:port"),
        ("ENGINES", "[http://a]", "setting engines: not a valid JSON list"),
        ("ENGINES", '[{"url": "http://a", "wait": 1}]', "unknown setting engines[0].wait"),
        ("UPSTREAM__IDLE_TIMEOUT", "-1", "setting upstream.idle_timeout: Input should be greater"),
        (
            "SERVER__PROT",
            "1",
            "unknown setting MAXGATE_SERVER__PROT; did you mean MAXGATE_SERVER__",
        ),
        ("PROT", "1", "unknown setting MAXGATE_PROT; did you mean MAXGATE_SERVER__PORT?"),
        (
            "UPSTREAM__IDLE",
            "1",
            "unknown setting MAXGATE_UPSTREAM__IDLE; did you mean MAXGATE_UPST",
        ),
        ("CONFIGS", "1", "unknown setting MAXGATE_CONFIGS; did you mean MAXGATE_CONFIG?"),
        ("XYZ", "1", "unknown setting MAXGATE_XYZ"),
        ("CONFIG", "missing.yaml", "missing.yaml: No such file or directory"),
        ("CONFIG", "secrets", "secrets: Is a directory"),
        ("ENV_FILE", "missing.env", "missing.env: No such file or directory"),
        ("SECRETS_DIR", "missing", "MAXGATE_SECRETS_DIR: missing is not a directory"),
    ],
)
def test_invalid_variables(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    """The error names the setting, the value or rule, and close names."""
    monkeypatch.setenv(f"MAXGATE_{variable}", value)
    assert read_error().startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot: 1", "maxgate.yaml: unknown setting prot; did you mean server.port?"),
        ("prot:", "maxgate.yaml: unknown setting prot; did you mean server.port?"),
        ("max: {}", "maxgate.yaml: unknown setting max"),
        (
            "upstream: {idle: 1}",
            "maxgate.yaml: unknown setting upstream.idle; did you mean upstream.idle_timeout?",
        ),
        ("server: [", "maxgate.yaml, line 1: not valid YAML"),
        (
            "server: {port: 1}\nserver: {}",
            "maxgate.yaml, line 2: the same setting twice",
        ),
        (
            "server:\n  port: 1\n  port: 2",
            "maxgate.yaml, line 3: the same setting twice",
        ),
        ("- port", "maxgate.yaml: must hold `setting: value` lines"),
        ("1: 2", "maxgate.yaml: must hold `setting: value` lines"),
        ("server: {port: x}", "maxgate.yaml: setting server.port: Input should be a valid integer"),
        ("server: 1", "maxgate.yaml: setting server: Input should be a valid dictionary"),
        ("server: 1\nport: 1", "maxgate.yaml: setting server must hold settings"),
        ("engines: []", "maxgate.yaml: setting engines: the list is empty; write http://host:port"),
    ],
)
def test_invalid_file(folder: Path, text: str, message: str) -> None:
    """The error names the file and line, or the setting."""
    (folder / "maxgate.yaml").write_text(text)
    assert read_error().startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "MAXGATE_PROT=1",
            ".env: unknown setting MAXGATE_PROT; did you mean MAXGATE_SERVER__PORT?",
        ),
        ("A=1\nMAXGATE_SERVER__PORT", ".env, line 2: write NAME=value"),
        ("A=1\nB='", ".env, line 2: write NAME=value"),
        ("MAXGATE_SERVER__PORT=x", ".env: setting server.port: Input should be a valid integer"),
        ("MAXGATE_CONFIG=x", ".env: MAXGATE_CONFIG is read from the environment only"),
    ],
)
def test_invalid_dotenv(folder: Path, text: str, message: str) -> None:
    """The error names the file and line, or the setting."""
    (folder / ".env").write_text(text)
    assert read_error().startswith(message)


@pytest.mark.parametrize(("high", "low"), list(combinations(SOURCES[:-1], 2)))
def test_origin(high: str, low: str, set_port: Callable[[str, int], None], folder: Path) -> None:
    """An invalid value is reported with the file that it comes from."""
    origins = {"secrets": f"{folder}/secrets: ", "dotenv": ".env: ", "file": "maxgate.yaml: "}
    set_port(low, 1)
    set_port(high, -1)
    assert read_error().startswith(f"{origins.get(high, '')}setting server.port: Input should be")


def test_invalid_secret(folder: Path) -> None:
    """The error names the secrets directory."""
    (folder / "secrets" / "maxgate_prot").write_text("1")
    assert read_error().startswith(f"{folder}/secrets: unknown setting MAXGATE_PROT; did you mean")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("maxgate.yaml", "maxgate.yaml: not UTF-8 text"),
        (".env", ".env: not UTF-8 text"),
        ("secrets/MAXGATE_CARDS", "/MAXGATE_CARDS: not UTF-8 text"),
    ],
)
def test_binary_file(folder: Path, name: str, message: str) -> None:
    """A file that is not text is named."""
    (folder / name).write_bytes(b"\xff\xfe\x00")
    assert read_error().endswith(message)


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
