"""Variables that name files with the values of settings."""

from pathlib import Path

import pytest

from maxgate.settings import setting_names
from maxgate.settings_names import SettingNames, to_variable
from tests.fakes.setting_sources import load, read_error

URL = "redis://:secret-password@cache"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a URL, as of a secret."""
    path = tmp_path / "url"
    path.write_text(f"{URL}\n")
    return path


@pytest.mark.parametrize("variable", ["MAXGATE_REDIS__URL_FILE", "REDIS_URL_FILE"])
def test_value(monkeypatch: pytest.MonkeyPatch, file: Path, variable: str) -> None:
    """The value is the content of the file without white space around it."""
    monkeypatch.setenv(variable, str(file))
    settings, _ = load()
    assert settings.redis.url == URL


def test_all_settings() -> None:
    """Every setting has such a variable; that of the pepper is a setting, which reads the file."""
    names = SettingNames(setting_names(), pytest.fail)
    variables = [to_variable(name) for name in setting_names()]
    missing = [one for one in variables if names.find_file_target(f"{one}_FILE") != one]
    assert missing == ["MAXGATE_AUTH__PEPPER"]
    assert "MAXGATE_AUTH__PEPPER_FILE" in variables


def test_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable without a path is an error, but an empty one of other programs is not."""
    monkeypatch.setenv("REDIS_URL_FILE", "")
    settings, _ = load()
    assert settings.redis.url is None
    monkeypatch.setenv("MAXGATE_REDIS__URL_FILE", "")
    assert read_error() == "MAXGATE_REDIS__URL_FILE is empty; name a file, or remove the variable"


def test_own_files(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Settings that are paths of files are not read."""
    monkeypatch.setenv("MAXGATE_AUTH__MODE", "keys")
    monkeypatch.setenv("MAXGATE_AUTH__KEYS_FILE", str(file))
    settings, _ = load()
    assert settings.auth.keys_file == file


def test_both(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """A value and a file with another one are an error."""
    monkeypatch.setenv("MAXGATE_REDIS__URL", "redis://cache")
    monkeypatch.setenv("MAXGATE_REDIS__URL_FILE", str(file))
    assert read_error() == "both MAXGATE_REDIS__URL and MAXGATE_REDIS__URL_FILE are set; remove one"


def test_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that cannot be read is an error that names the variable."""
    path = tmp_path / "none"
    monkeypatch.setenv("DATABASE_URL_FILE", str(path))
    assert read_error() == f"DATABASE_URL_FILE: {path}: No such file or directory"


def test_unknown(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """A file for a setting that does not exist is an unknown setting."""
    monkeypatch.setenv("MAXGATE_REDIS__NAME_FILE", str(file))
    assert read_error().startswith("unknown setting MAXGATE_REDIS__NAME_FILE")
