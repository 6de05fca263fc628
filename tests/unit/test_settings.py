"""Where settings come from, and what is said of those that cannot be."""

from pathlib import Path

import pytest

from maxgate.cli.options import export_flags
from maxgate.errors import ConfigurationError
from maxgate.settings import load_settings


def yaml_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "maxgate.yaml"
    file.write_text(text)
    return file


def test_defaults() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.engine_urls, settings.engine) == (
        "127.0.0.1",
        8000,
        ["http://localhost:8080"],
        "none",
    )


def test_flags_beat_environment_beats_file_beats_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = yaml_file(
        tmp_path, "port: 1\nhost: file\nworkers: 3\nupstream: {idle_timeout: 7, probe_timeout: 8}\n"
    )
    monkeypatch.setenv("MAXGATE_CONFIG", str(file))
    monkeypatch.setenv("MAXGATE_HOST", "environment")
    monkeypatch.setenv("MAXGATE_PORT", "2")
    monkeypatch.setenv("MAXGATE_UPSTREAM__IDLE_TIMEOUT", "9")
    monkeypatch.delenv("MAXGATE_WORKERS", raising=False)
    export_flags(port=3, host=None)
    settings = load_settings()
    assert (settings.port, settings.host, settings.workers, settings.max_body_bytes) == (
        3,
        "environment",
        3,
        10_000_000,
    )
    assert (settings.upstream.idle_timeout, settings.upstream.probe_timeout) == (9, 8)


def test_lists_are_comma_separated_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXGATE_ENGINE_URLS", "http://a:1, http://b:2")
    monkeypatch.setenv("MAXGATE_CARDS", "x.yaml,models")
    settings = load_settings()
    assert settings.engine_urls == ["http://a:1", "http://b:2"]
    assert settings.cards == [Path("x.yaml"), Path("models")]


def test_lists_are_lists_in_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = yaml_file(tmp_path, "engine_urls:\n  - http://a:1\n  - http://b:2\n")
    monkeypatch.setenv("MAXGATE_CONFIG", str(file))
    assert load_settings().engine_urls == ["http://a:1", "http://b:2"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "x", "setting port: Input should be a valid integer"),
        ("HOST", "", "setting host: String should have at least 1 character"),
        ("PORT", "70000", "setting port: Input should be less than or equal to 65535"),
        ("WORKERS", "0", "setting workers: Input should be greater than or equal to 1"),
        ("ENGINE", "vllm", "setting engine: Input should be 'local', 'docker' or 'none'"),
        ("ENGINE_URLS", "localhost:80", "setting engine_urls: 'localhost:80' is not a URL"),
        ("ENGINE_URLS", "http://", "setting engine_urls: 'http://' is not a URL"),
        ("ENGINE_URLS", "http://a:port", "setting engine_urls: 'http://a:port' is not a URL"),
        ("ENGINE_URLS", "http://a:99999", "setting engine_urls: 'http://a:99999' is not a URL"),
        ("ENGINE_URLS", "http://a b", "setting engine_urls: 'http://a b' is not a URL"),
        ("ENGINE_URLS", ",", "setting engine_urls: no engine is named; write http://host:port"),
        ("UPSTREAM__IDLE_TIMEOUT", "-1", "setting upstream.idle_timeout: Input should be greater"),
        ("PROT", "1", "unknown setting MAXGATE_PROT; did you mean MAXGATE_PORT?"),
        ("UPSTREAM__IDLE", "1", "unknown setting MAXGATE_UPSTREAM__IDLE; did you mean"),
        ("CONFIG", "missing.yaml", "config file missing.yaml: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"MAXGATE_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot: 1", "unknown setting prot; did you mean port?"),
        ("upstream: {idle: 1}", r"upstream\.idle; did you mean upstream\.idle_timeout\?"),
        ("port: [", "not valid YAML"),
        ("- port", "must hold `setting: value` lines"),
        ("1: 2", "must hold `setting: value` lines"),
        ("port: x", "setting port: Input should be a valid integer"),
    ],
)
def test_a_bad_file_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, message: str
) -> None:
    monkeypatch.setenv("MAXGATE_CONFIG", str(yaml_file(tmp_path, text)))
    with pytest.raises(ConfigurationError, match=message):
        load_settings()


def test_a_file_that_is_no_text_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "maxgate.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv("MAXGATE_CONFIG", str(file))
    with pytest.raises(ConfigurationError, match="not valid YAML"):
        load_settings()
