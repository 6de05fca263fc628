"""The settings of Redis."""

import subprocess
import sys
from pathlib import Path

import pytest

from maxgate.settings import Settings
from maxgate.stores.settings import RedisSettings
from tests.conftest import ROOT
from tests.fakes.setting_sources import load, read_error

DATABASE = "MAXGATE_DATABASE__URL"
URL = "MAXGATE_REDIS__URL"
CA_FILE = ROOT / "tests" / "data" / "tls" / "ca.pem"


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No file has settings."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache",
        "redis://cache:6379/",
        "redis://cache:6379/15",
        "rediss://user:p%40ss@cache:6380/0",
        "redis://:secret@[::1]:6379",
        "unix:///run/redis.sock",
    ],
)
def test_url(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The URL may have credentials and a database, and may lead to a socket."""
    monkeypatch.setenv(URL, url)
    assert load()[0].redis == RedisSettings(url=url)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://cache", "not a Redis URL; write redis://host:6379/0"),
        ("cache:6379", "not a Redis URL; write redis://host:6379/0"),
        ("redis://", "not a Redis URL; write redis://host:6379/0"),
        ("redis://:secret@cache:0", "not a Redis URL; write redis://host:6379/0"),
        ("redis://:secret@cache:port", "not a Redis URL; write redis://host:6379/0"),
        ("redis://:sec ret@cache", "not a Redis URL; write redis://host:6379/0"),
        ("unix://", "not a Redis URL; write redis://host:6379/0"),
        ("redis://cache/main", "'main' is not a database; write redis://host:6379/0"),
        ("redis://cache?socket_timeout=9", "a Redis URL with ? or #; percent-encode them in a"),
    ],
)
def test_invalid_url(monkeypatch: pytest.MonkeyPatch, url: str, rule: str) -> None:
    """The error has the rule, and not the password."""
    monkeypatch.setenv(URL, url)
    error = read_error()
    assert error.startswith(f"setting redis.url: {rule}")
    assert "sec" not in error


def test_standard_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """REDIS_URL is the URL unless the gateway's own variable is set, even if that is empty."""
    monkeypatch.setenv("REDIS_URL", "redis://standard")
    assert load() == (Settings(redis={"url": "redis://standard"}), [])
    monkeypatch.setenv(URL, "redis://own")
    assert load() == (Settings(redis={"url": "redis://own"}), [])
    monkeypatch.setenv(URL, "")
    assert load() == (Settings(), [])


def test_standard_variable_in_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In files, REDIS_URL may belong to another program."""
    (tmp_path / ".env").write_text("REDIS_URL=redis://other")
    monkeypatch.setenv("MAXGATE_ENV_FILE", ".env")
    assert load() == (Settings(), [])


@pytest.mark.parametrize(
    ("variables", "rule"),
    [
        ({"TIMEOUT": "1"}, "timeout has no effect without redis.url; set it too"),
        ({"URL": "", "KEY_PREFIX": "a"}, "key_prefix has no effect without redis.url; set it too"),
        (
            {"URL": "redis://cache", "CA_FILE": str(CA_FILE)},
            "ca_file needs a url that starts with rediss://",
        ),
        (
            {"URL": "rediss://cache", "CA_FILE": "/none.pem"},
            "ca_file '/none.pem': No such file or directory",
        ),
    ],
)
def test_no_effect(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], rule: str) -> None:
    """A setting that has no effect is an error."""
    for name, value in variables.items():
        monkeypatch.setenv(f"MAXGATE_REDIS__{name}", value)
    assert read_error() == f"setting redis: {rule}"


def test_ca_file() -> None:
    """TLS may have a private CA."""
    settings = RedisSettings(url="rediss://cache", ca_file=CA_FILE)
    assert settings.ca_file == CA_FILE


@pytest.mark.parametrize(
    ("variables", "is_refused"),
    [
        ({URL: "redis://cache"}, True),
        ({URL: "redis://cache", "REDIS_URL": "redis://other"}, True),
        ({"REDIS_URL": "redis://cache"}, False),
        ({URL: "redis://cache", "MAXGATE_ADMISSION__ENABLED": "true"}, False),
        ({URL: "redis://cache", "MAXGATE_AUTH__MODE": "keys"}, False),
        ({URL: "redis://cache", "MAXGATE_LIMITS__EVERYONE": '{"tokens_per_day": 1}'}, False),
        ({URL: "redis://cache", "MAXGATE_AUTH__MODE": "keys", DATABASE: "none"}, True),
    ],
)
def test_without_admission(variables: dict[str, str], *, is_refused: bool) -> None:
    """A URL that has no effect is an error, unless it may be that of another program."""
    code = "from maxgate.settings import load_and_configure_logging as load; load()"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT), "MAXGATE_ADMISSION__ENABLED": "false", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    error = (
        "maxgate.settings_names.InvalidSettings: setting redis.url has no effect with "
        "admission.enabled: false, because only slots, limits and changes of keys in a database "
        "are shared through Redis; remove one of the two"
    )
    assert result.returncode == is_refused
    assert result.stderr.splitlines()[-1:] == [error] * is_refused
