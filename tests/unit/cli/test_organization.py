"""`maxgate projects`, `users` and `keys` change the database, and print what scripts need."""

import asyncio
import io
import re
import sqlite3
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from maxgate.auth.api_key import is_well_formed
from maxgate.auth.redis_key_changes import RedisKeyChanges
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.redis import RedisStore
from maxgate.stores.settings import DatabaseSettings, RedisSettings
from tests.fakes.command_line import Run, read_json
from tests.fakes.postgres_server import PostgresServer
from tests.fakes.processes import free_port
from tests.fakes.redis_server import start_redis

SOON = "Running gateways take it over within 60 s (5 s with redis.url).\n"


def test_projects(run: Run) -> None:
    """A project is created, renamed and archived; lists have archived ones on demand."""
    code, out, err = run("projects", "create", "Research")
    project = out.strip()
    assert (code, err) == (0, f"Next: maxgate keys create --project {project} --name NAME\n")
    assert run("projects", "rename", "Research", "Labs")[0] == 0
    assert run("projects", "list")[1].splitlines()[1].split()[:3] == [project, "Labs", "active"]
    code, out, err = run("projects", "archive", project, "--yes")
    assert (code, out, err) == (
        0,
        "",
        f"{project} is archived, and its keys are refused. {SOON}",
    )
    assert read_json(run, "projects", "list") == []
    [listed] = read_json(run, "projects", "list", "--archived")
    assert (listed["id"], listed["name"], listed["status"]) == (project, "Labs", "archived")
    code, out, err = run("keys", "create", "--project", project)
    assert (code, out, err) == (1, "", f"maxgate: The project '{project}' is archived.\n")


@pytest.mark.parametrize(
    ("answer", "code", "shown"),
    [
        ("y\n", 0, f" keys are refused. {SOON}"),
        ("n\n", 1, ""),
        (
            "",
            2,
            "\nmaxgate: there is no terminal to ask for confirmation; confirm with --yes\n",
        ),
    ],
)
def test_confirmation(
    run: Run, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, shown: str
) -> None:
    """A question takes the answer of standard input; without any, the error names --yes."""
    run("projects", "create", "Research")
    run("users", "add", "ann@example.org")
    for command in (("projects", "archive", "Research"), ("users", "delete", "ann@example.org")):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        exit_code, out, err = run(*command)
        question, _, rest = err.partition(" [y/N]:")
        assert (exit_code, out.strip(), question.count("?")) == (code, "", 1)
        assert rest.endswith(shown)


def test_models(run: Run) -> None:
    """The models of a project are allowed, denied and cleared; the last list counts."""
    run("projects", "create", "Research")
    for command, mode, models in (
        (("allow", "Research", "a", "b"), "allow_list", ["a", "b"]),
        (("deny", "Research", "c"), "deny_list", ["c"]),
        (("clear", "Research"), None, None),
    ):
        code, out, err = run("projects", "models", *command)
        assert (code, out, err.endswith(SOON)) == (0, "", True)
        shown = read_json(run, "projects", "show", "Research")
        assert (shown["models_mode"], shown["models"]) == (mode, models)


def test_users(run: Run) -> None:
    """A user is added, joins a project with a role, and is deleted."""
    project = run("projects", "create", "Research")[1].strip()
    user = run("users", "add", "ann@example.org")[1].strip()
    assert run("users", "set-role", "ann@example.org", "owner")[0] == 0
    assert run("users", "projects", "join", "Ann@example.org", "Research")[0] == 0
    assert run("users", "projects", "join", user, project, "--role", "owner")[0] == 0
    [listed] = read_json(run, "users", "list")
    assert (listed["id"], listed["name"], listed["role"]) == (user, "ann", "owner")
    [membership] = read_json(run, "users", "projects", "list", user)
    assert (membership["project_id"], membership["role"]) == (project, "owner")
    assert run("users", "projects", "leave", user, project)[0] == 0
    assert read_json(run, "users", "projects", "list", user) == []
    assert run("users", "add", "ANN@example.org")[0] == 2
    assert run("users", "delete", user, "--yes")[0] == 0
    assert run("users", "list")[1].split() == ["id", "email", "name", "role", "added_at"]


def test_key(run: Run) -> None:
    """Only the key is on stdout; its service account and project are created with it."""
    code, out, err = run(
        *("keys", "create", "--name", "bot", "--models", "a,b", "--networks", "10.0.0.0/8"),
        *("--expires", "90d", "--service-class", "flex"),
    )
    key = out.removesuffix("\n")
    [shown] = read_json(run, "keys", "list")
    detail = read_json(run, "projects", "show", "default")

    assert (code, is_well_formed(key)) == (0, True)
    assert err == (
        f"{shown['id']} belongs to {shown['owner']} in default. The key is shown only now.\n"
    )
    assert shown == {
        "id": shown["id"],
        "name": "bot",
        "owner_type": "service_account",
        "created_at": shown["created_at"],
        "expires_at": shown["expires_at"],
        "last_used_at": None,
        "previous_expires_at": None,
        "service_class": "flex",
        "models": ["a", "b"],
        "networks": ["10.0.0.0/8"],
        "metadata": {},
        "project": "default",
        "owner": shown["owner"],
        "state": "active",
        "key": f"{key[:9]}...{key[-4:]}",
    }
    assert 0 <= 90 * 86_400 - (shown["expires_at"] - shown["created_at"]) < 60
    assert read_json(run, "keys", "show", shown["id"]) == shown
    assert detail["service_accounts"] == [f"{shown['owner']} (bot)"]


def test_key_file(run: Run, tmp_path: Path) -> None:
    """The list of keys in the database says that the file has keys, too."""
    assert run("keys", "create", "--file")[0] == 0
    code, out, err = run("keys", "list")

    assert (code, len(out.splitlines())) == (0, 1)
    assert err == f"{tmp_path}/keys.yaml has keys, too: maxgate keys list --file\n"


def test_states(run: Run) -> None:
    """A key is rotated with a grace period, blocked, unblocked and revoked."""
    created = read_json(run, "keys", "create", "--name", "bot")
    key_id = created["id"]
    code, out, err = run("keys", "rotate", key_id, "--grace", "12h")
    assert (code, is_well_formed(out.strip()), out.strip() != created["key"]) == (0, True, True)
    assert err == f"{key_id} has a new text; the old one is accepted for 43200 s. {SOON}"
    for command, state in (("block", "blocked"), ("unblock", "active")):
        code, out, err = run("keys", command, key_id)
        assert (code, out, err.endswith(SOON)) == (0, "", True)
        assert read_json(run, "keys", "show", key_id)["state"] == state
    code, out, err = run("keys", "revoke", key_id)
    assert (code, out, err) == (0, "", f"{key_id} is revoked and deleted. {SOON}")
    assert read_json(run, "keys", "list") == []


def test_admin_keys(run: Run) -> None:
    """Admin keys have a list of their own, and the last one stays."""
    first = read_json(run, "keys", "create", "--admin", "--name", "first")["id"]
    second = read_json(run, "keys", "create", "--admin")["id"]
    assert read_json(run, "keys", "list") == []
    listed = read_json(run, "keys", "list", "--admin")
    assert [(key["id"], key["name"]) for key in listed] == [(first, "first"), (second, "admin")]
    assert run("keys", "block", first)[0] == 2
    assert run("keys", "revoke", first)[0] == 0
    code, _, err = run("keys", "revoke", second)
    assert (code, err) == (
        1,
        "maxgate: This is the last valid admin key. Create another one before you delete it.\n",
    )


def test_owner(run: Run) -> None:
    """A user owns keys of the projects that it is a member of."""
    user = run("users", "add", "ann@example.org")[1].strip()
    project = run("projects", "create", "Research")[1].strip()
    command = ("keys", "create", "--owner", "ann@example.org", "--project", "Research")
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert err.endswith(f"; run: maxgate users projects join {user} {project}\n")
    assert run("users", "projects", "join", user, project)[0] == 0
    assert run(*command)[0] == 0
    [key] = read_json(run, "keys", "list", "--project", "Research")
    assert (key["owner_type"], key["owner"]) == ("user", user)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("keys create --expires soon", "--expires: 'soon' is not a date or time; write 2027-01-31"),
        ("keys create --expires 2020-01-01", "is not within the next 10 years"),
        ("keys create --networks 10.0.0.1/8", "--networks: 10.0.0.1/8 has host bits set; write"),
        ("keys create --models a,,b", "a list has an empty item; remove it"),
        ("keys create --admin --models a", "an admin key has no project, owner, models"),
        ("keys create --project nix", "no project has the id or name 'nix'; `maxgate projects"),
        ("keys create --owner nix", "no user has the id or e-mail address 'nix'; `maxgate users"),
        ("keys list --admin --project a", "admin keys have no project"),
        ("keys show key_nix", "no key has the id 'key_nix'; `maxgate keys list` lists them"),
        ("keys rotate key_nix --grace x", "--grace: 'x' is not 0 or a duration such as 12h"),
        ("keys rotate key_nix --grace 31d", "--grace: '31d' is not 0 or a duration"),
        ("users add ann", "'email' must be an e-mail address"),
        ("users projects join nix default", "no user has the id"),
        ("projects show nix", "and `maxgate projects create NAME` creates one"),
    ],
)
def test_wrong_use(run: Run, arguments: str, message: str) -> None:
    """Wrong use ends with exit code 2, nothing on stdout, and one line with the rule."""
    code, out, err = run(*arguments.split())

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_key_in_error(run: Run) -> None:
    """A key where an id was expected is not printed."""
    key = run("keys", "create", "--name", "bot")[1].strip()
    code, output, error = run("keys", "show", key)
    assert (code, output, key in error, key[-4:] in error) == (2, "", False, True)


def test_ambiguous_name(run: Run) -> None:
    """Of two projects with a name, the id is needed."""
    ids = [run("projects", "create", "Research")[1].strip() for _ in range(2)]
    code, _, err = run("projects", "show", "Research")

    assert (code, err) == (
        2,
        f"maxgate: 2 projects have the name 'Research'; write the id of one: {', '.join(ids)}\n",
    )


def test_no_database(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a database, the commands name the setting."""
    monkeypatch.setenv("DATABASE_URL", "none")
    for command in ("projects list", "users list", "keys rotate key_1"):
        code, out, err = run(*command.split())
        assert (code, out) == (2, "")
        assert err.startswith("maxgate: setting database.url is none, so there is no database")


def test_unavailable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable database is named, without the password."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:pa55word@127.0.0.1:1/maxgate")
    code, out, err = run("projects", "list")

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("maxgate: the database at 127.0.0.1:1/maxgate")
    assert "pa55word" not in err


def test_locked(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a change that could not be made has the reason."""
    run("projects", "list")
    monkeypatch.setenv("MAXGATE_DATABASE__TIMEOUT", "1")
    other = sqlite3.connect(tmp_path / "maxgate.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    code, out, err = run("projects", "create", "Research")
    other.close()

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.endswith("is unavailable: database is locked; nothing was changed\n")


def test_postgres(run: Run, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer) -> None:
    """The commands work with PostgreSQL, whose tables `maxgate db upgrade` creates."""
    schema = f"test_{uuid4().hex}"
    monkeypatch.setenv("DATABASE_URL", postgres.url)
    monkeypatch.setenv("MAXGATE_DATABASE__SCHEMA_NAME", schema)
    code, _, err = run("keys", "create", "--name", "bot")
    assert (code, "run: maxgate db upgrade" in err) == (2, True)
    upgrade_database(DatabaseSettings(url=postgres.url, schema_name=schema), Path())
    created = read_json(run, "keys", "create", "--name", "bot")
    assert read_json(run, "keys", "show", created["id"])["name"] == "bot"


def test_log(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output has the result only, for scripts; what is logged goes to standard error."""
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")

    code, out, err = run("projects", "create", "research")

    assert code == 0
    assert re.fullmatch(r"proj_\w+\n", out)
    assert "Redis is unavailable" in err


async def test_redis(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Redis, running gateways get the ids of the changed objects."""
    with start_redis() as redis:
        changes = RedisKeyChanges(RedisStore(RedisSettings(url=redis.url)))
        await changes.poll()
        monkeypatch.setenv("REDIS_URL", redis.url)
        created = await asyncio.to_thread(read_json, run, "keys", "create")
        code, _, err = await asyncio.to_thread(run, "keys", "block", created["id"])
        reported = (await changes.poll()).ids
        await changes.aclose()

    assert (code, created["id"] in reported) == (0, True)
    assert err.endswith("Running gateways take it over within 5 s (60 s while Redis is away).\n")
