"""`maxgate db` creates, upgrades and checks the tables."""

import json
import sqlite3
import sys
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from maxgate.cli.main import main
from maxgate.stores.migrate import REVISIONS, upgrade_database
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.manifests import FOLDER
from tests.fakes.postgres_server import PostgresServer

HEAD = REVISIONS[-1]


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for durable state."""
    monkeypatch.setenv("MAXGATE_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, list[str], str]:
    """Run `maxgate db`; return exit code, the lines of stdout, and stderr."""
    monkeypatch.setattr(sys, "argv", ["maxgate", "db", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    output = capsys.readouterr()
    return int(exit_.value.code or 0), output.out.splitlines(), output.err


def test_new_database(monkeypatch, capsys, state_dir: Path) -> None:
    """A check creates nothing; an upgrade can be repeated."""
    missing = "The database has no maxgate tables yet; run: maxgate db upgrade."
    assert run(monkeypatch, capsys, "check") == (1, [missing], "")
    assert not state_dir.exists()
    created = f"Created the tables (revision {HEAD}). Next: maxgate serve"
    assert run(monkeypatch, capsys, "upgrade") == (0, [created], "")
    current = f"The database is up to date (revision {HEAD})."
    assert run(monkeypatch, capsys, "check") == (0, [current], "")
    nothing = f"Nothing to do: the database is up to date (revision {HEAD})."
    assert run(monkeypatch, capsys, "upgrade") == (0, [nothing], "")


def test_old_database(monkeypatch, capsys, state_dir: Path) -> None:
    """The messages name both revisions, and the next step."""
    upgrade_database(DatabaseSettings(), state_dir, revisions=["0001"])
    old = (
        f"The database has revision 0001, and this version of maxgate needs {HEAD}; "
        "back it up, then run: maxgate db upgrade."
    )
    assert run(monkeypatch, capsys, "check") == (1, [old], "")
    upgraded = (
        f"Upgraded the database from revision 0001 to {HEAD}. "
        "Next: restart the gateways with this version, one by one."
    )
    assert run(monkeypatch, capsys, "upgrade") == (0, [upgraded], "")


def test_new_revision(monkeypatch, capsys, state_dir: Path) -> None:
    """A database of a later version is not touched."""
    upgrade_database(DatabaseSettings(), state_dir)
    with sqlite3.connect(state_dir / "maxgate.db") as connection:
        connection.execute("UPDATE maxgate_revision SET version_num = '9999'")
        connection.execute("DELETE FROM maxgate_compatible_revisions")
    connection.close()
    new = (
        f"database has revision 9999, which this version of maxgate (revision {HEAD}) cannot use; "
        "upgrade maxgate, or restore a backup"
    )
    assert run(monkeypatch, capsys, "check") == (1, [f"The {new}."], "")
    assert run(monkeypatch, capsys, "upgrade") == (2, [], f"maxgate: the {new}\n")


def test_postgres(monkeypatch, capsys, postgres: PostgresServer) -> None:
    """`DATABASE_URL` leads to PostgreSQL, whose state is printed as JSON."""
    monkeypatch.setenv("DATABASE_URL", postgres.url)
    monkeypatch.setenv("MAXGATE_DATABASE__SCHEMA_NAME", f"test_{uuid4().hex}")
    assert run(monkeypatch, capsys, "upgrade")[0] == 0
    monkeypatch.setattr(sys, "argv", ["maxgate", "db", "check", "--json"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert (exit_.value.code, json.loads(capsys.readouterr().out)) == (
        0,
        {
            "status": "current",
            "revision": HEAD,
            "expected": HEAD,
            "message": f"the database is up to date (revision {HEAD})",
            "usable": True,
        },
    )


def test_migration_job(monkeypatch, capsys, postgres: PostgresServer, tmp_path: Path) -> None:
    """The Job of Kubernetes creates the tables with its own variables and secrets."""
    schema = f"test_{uuid4().hex}"
    manifest = FOLDER / "components" / "database" / "migration.yaml"
    _, job = yaml.safe_load_all(manifest.read_text())
    [container] = job["spec"]["template"]["spec"]["containers"]
    [mount] = [one for one in container["volumeMounts"] if one["name"] == "secrets"]
    (tmp_path / "database-url").write_text(f"{postgres.url}\n")
    (tmp_path / "pepper").write_text("0123456789abcdef" * 4)
    for variable in container["env"]:
        value = variable["value"].replace(mount["mountPath"], str(tmp_path))
        monkeypatch.setenv(variable["name"], value)
    monkeypatch.setenv("MAXGATE_DATABASE__SCHEMA_NAME", schema)
    command, *arguments = container["args"]
    assert (command, run(monkeypatch, capsys, *arguments)[:2]) == (
        "db",
        (0, [f"Created the tables (revision {HEAD}). Next: maxgate serve"]),
    )


def test_unavailable(monkeypatch, capsys) -> None:
    """An unreachable database is named, without the password."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:pa55word@127.0.0.1:1/maxgate")
    for command in ("check", "upgrade"):
        code, out, error = run(monkeypatch, capsys, command)
        assert (code, out) == (1, [])
        assert error.startswith("maxgate: the database at 127.0.0.1:1/maxgate")
        assert "pa55word" not in error


def test_no_database(monkeypatch, capsys) -> None:
    """Without a database there is nothing to upgrade."""
    monkeypatch.setenv("DATABASE_URL", "none")
    for command in ("check", "upgrade"):
        assert run(monkeypatch, capsys, command) == (
            2,
            [],
            "maxgate: setting database.url is none, so there is no database; remove it to use "
            "SQLite, or write postgresql://user@host:5432/name\n",
        )


def test_directory(monkeypatch, capsys, state_dir: Path) -> None:
    """A file that cannot be created is named."""
    (state_dir / "maxgate.db").mkdir(parents=True)
    code, _, error = run(monkeypatch, capsys, "upgrade")
    assert (code, error) == (2, f"maxgate: database {state_dir / 'maxgate.db'}: Is a directory\n")


def test_other_file(monkeypatch, capsys, state_dir: Path) -> None:
    """A file that is no database is not changed."""
    state_dir.mkdir()
    (state_dir / "maxgate.db").write_text("my letters " * 100)
    code, _, error = run(monkeypatch, capsys, "upgrade")
    path = state_dir / "maxgate.db"
    assert (code, error) == (1, f"maxgate: the database at {path}: file is not a database\n")
    assert path.read_text() == "my letters " * 100
