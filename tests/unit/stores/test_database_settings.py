"""The settings of the database."""

from pathlib import Path

import pytest

from maxgate.errors import ConfigurationError
from maxgate.settings import Settings, check_use, load_settings
from maxgate.stores.database import find_url
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.setting_sources import load, read_error

URL = "MAXGATE_DATABASE__URL"
FORMS = "write postgresql://user@host:5432/name, sqlite:////path/to/file.db or none"


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No file has settings."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (None, "sqlite:////state/maxgate.db"),
        ("sqlite:////data/keys.db", "sqlite:////data/keys.db"),
        ("sqlite:///keys.db", "sqlite:///keys.db"),
        ("postgresql://db/maxgate", "postgresql+psycopg://db/maxgate"),
        ("postgres://me:a%40b@db:5433/m", "postgresql+psycopg://me:***@db:5433/m"),
        ("postgresql+psycopg://[::1]/m", "postgresql+psycopg://[::1]/m"),
        ("postgresql:///m?host=/run", "postgresql+psycopg:///m?host=%2Frun"),
        ("postgresql://db/m?sslmode=require", "postgresql+psycopg://db/m?sslmode=require"),
    ],
)
def test_url(monkeypatch: pytest.MonkeyPatch, url: str | None, place: str) -> None:
    """The database is a file in the state folder, another file, or a PostgreSQL."""
    if url is not None:
        monkeypatch.setenv(URL, url)
    settings = load()[0].database
    assert settings == DatabaseSettings(url=url)
    assert str(find_url(settings, Path("/state"))) == place


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("db:5432", f"'db' is not supported; {FORMS}"),
        ("mysql://me:secret@db/m", f"'mysql' is not supported; {FORMS}"),
        ("postgresql+asyncpg://me:secret@db/m", f"'postgresql+asyncpg' is not supported; {FORMS}"),
        ("postgresql://me:secret@db:0/m", f"not a URL of a database; {FORMS}"),
        ("postgresql://me:secret@db:port/m", f"not a URL of a database; {FORMS}"),
        ("postgresql://me:sec ret@db/m", f"not a URL of a database; {FORMS}"),
        (
            "postgresql://me:secret@db",
            "no name of a database; write postgresql://user@host:5432/name",
        ),
        ("postgresql://me:secret@db/m#x", "a URL with #; percent-encode it in a password"),
        (
            "postgresql://me:x@secret@db/m",
            "a URL with several @; percent-encode them in a password",
        ),
        (
            "postgresql://me:x@/secret@d/m",
            "a URL with several @; percent-encode them in a password",
        ),
        ("sqlite://keys.db", "not the path of a file; write sqlite:////path/to/file.db"),
        ("sqlite://", "not the path of a file; write sqlite:////path/to/file.db"),
        ("sqlite:///x?mode=ro", "not the path of a file; write sqlite:////path/to/file.db"),
    ],
)
def test_invalid_url(monkeypatch: pytest.MonkeyPatch, url: str, rule: str) -> None:
    """The error has the rule, and not the password."""
    monkeypatch.setenv(URL, url)
    error = read_error()
    assert error == f"setting database.url: {rule}"
    assert "sec" not in error


def test_standard_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """DATABASE_URL of the environment is the URL, unless the gateway's own variable is set."""
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://other/db")
    monkeypatch.setenv("MAXGATE_ENV_FILE", ".env")
    assert load() == (Settings(), [])
    monkeypatch.setenv("DATABASE_URL", "postgresql://standard/db")
    assert load() == (Settings(database={"url": "postgresql://standard/db"}), [])
    monkeypatch.setenv(URL, "none")
    assert load() == (Settings(database={"url": "none"}), [])


@pytest.mark.parametrize(
    ("variables", "rule"),
    [
        (
            {"SCHEMA_NAME": "gateway"},
            "schema_name has no effect without a PostgreSQL database.url",
        ),
        (
            {"URL": "none", "TIMEOUT": "1"},
            "timeout has no effect with database.url: none; remove it",
        ),
    ],
)
def test_no_effect(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], rule: str) -> None:
    """A setting that has no effect is an error."""
    for name, value in variables.items():
        monkeypatch.setenv(f"MAXGATE_DATABASE__{name}", value)
    assert read_error() == f"setting database: {rule}"


def test_password() -> None:
    """The URL, which may hold a password, is not shown."""
    settings = Settings(database={"url": "postgresql://me:secret@db/m"})
    assert "me:secret" not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "is_refused"),
    [
        ({URL: "postgresql://db/m"}, True),
        ({URL: "postgresql://db/m", "DATABASE_URL": "postgresql://other/m"}, True),
        ({"DATABASE_URL": "postgresql://db/m"}, False),
        ({URL: "none"}, False),
        ({URL: "postgresql://db/m", "MAXGATE_AUTH__MODE": "keys"}, False),
    ],
)
def test_without_keys(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, is_refused: bool
) -> None:
    """A URL that has no effect is an error, unless it may be that of another program."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    if not is_refused:
        check_use(settings)
        return
    with pytest.raises(ConfigurationError) as caught:
        check_use(settings)
    assert str(caught.value) == (
        "setting database.url has no effect without auth.mode keys or usage.enabled, because "
        "only API keys, their owners and usage are kept there; set one, or remove the URL"
    )
