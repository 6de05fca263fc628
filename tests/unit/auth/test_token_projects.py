"""Tokens have the rights of their projects in the database, within the bounds of keys."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from maxgate.auth.database_key_store import (
    MAX_AGE,
    MAX_STALE_AGE,
    REFRESH_AGE,
    RETRY_SECONDS,
    DatabaseKeyStore,
)
from maxgate.auth.identity import AuthenticationUnavailable, Identity, InvalidCredential
from maxgate.auth.token_projects import MAX_PROJECTS, TokenProjects
from maxgate.generation.context import Principal, ProjectModels
from maxgate.stores.identity import ModelPermissions, Project, ProjectGrant
from tests.fakes.clock import FakeClock
from tests.fakes.identity_store import FakeIdentityStore
from tests.fakes.waiting import until

RED = ProjectGrant(Project("red", "", 0))
ARCHIVED = ProjectGrant(Project("red", "", 0, archived_at=1))
LIMITED = replace(RED, permissions=ModelPermissions("red", "allow_list", ("llama",)))
MODELS = ProjectModels(frozenset({"llama"}), is_denied=False)


class Bench:
    """The projects of tokens with their database and clock."""

    def __init__(self, *, requires_known: bool = False) -> None:
        self.database = FakeIdentityStore()
        self.database.projects["red"] = RED
        self.clock = FakeClock()
        self.projects = TokenProjects(self.database, self.clock, requires_known=requires_known)
        self.keys = DatabaseKeyStore(self.database, [], self.clock, followers=[self.projects])

    async def apply(self, project_id: str = "red") -> str:
        """Return `ok`, `limited` to the models of LIMITED, or why the token is refused."""
        identity = Identity(Principal(project_id, project_id, "user", "", "default"))
        try:
            found = await self.projects.apply(identity)
        except InvalidCredential as error:
            return error.reason
        except AuthenticationUnavailable:
            return "unavailable"
        return "ok" if found == identity else "limited" if found.project_models == MODELS else ""

    async def is_reading(self) -> bool:
        """Whether a look-up is in progress."""
        return bool(self.database.running)

    async def settle(self) -> None:
        """Let reads in the background end."""
        while tasks := list(self.projects._reads.values()):
            await asyncio.wait(tasks)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A database with the project `red`."""
    bench = Bench()
    yield bench
    await bench.keys.aclose()


@pytest.mark.parametrize(
    ("grant", "requires_known", "result"),
    [
        (RED, False, "ok"),
        (LIMITED, False, "limited"),
        (ARCHIVED, False, "archived_project"),
        (replace(ARCHIVED, permissions=LIMITED.permissions), True, "archived_project"),
        (RED, True, "ok"),
        (None, False, "ok"),
        (None, True, "unknown_project"),
    ],
)
async def test_rights(grant: ProjectGrant | None, requires_known: bool, result: str) -> None:
    """A token has the models of its project; an archived project is refused."""
    bench = Bench(requires_known=requires_known)
    bench.database.projects = {} if grant is None else {"red": grant}
    assert [await bench.apply() for _ in range(3)] == [result] * 3
    assert bench.database.project_reads == ["red"]


@pytest.mark.parametrize(
    ("age", "found"), [(REFRESH_AGE - 1, "ok"), (MAX_AGE - 1, "ok"), (MAX_AGE, "archived_project")]
)
async def test_age(bench: Bench, age: float, found: str) -> None:
    """A project is used as it was read for a minute, and read again before it has passed."""
    assert await bench.apply() == "ok"
    bench.database.projects["red"] = ARCHIVED
    bench.clock.advance(age)
    assert await bench.apply() == found
    await bench.settle()
    assert len(bench.database.project_reads) == (1 if age < REFRESH_AGE else 2)


async def test_changes(bench: Bench) -> None:
    """A reported change takes effect at once, also one that arrives during a read."""
    assert [await bench.apply(name) for name in ("red", "blue")] == ["ok", "ok"]
    for grant, result in ((LIMITED, "limited"), (ARCHIVED, "archived_project")):
        bench.database.projects["red"] = grant
        bench.keys.forget(["red", "key_1"])
        assert await bench.apply() == result
    assert bench.database.project_reads == ["red", "blue", "red", "red"]

    bench.keys.refresh()
    bench.database.is_open.clear()
    waiting = asyncio.create_task(bench.apply())
    await until(bench.is_reading)
    bench.database.projects["red"] = RED
    bench.keys.forget(["red"])
    bench.database.is_open.set()
    assert await waiting == "ok"


async def test_outage(bench: Bench) -> None:
    """During an outage, known projects stay as they are for 15 minutes; others get 503."""
    bench.database.projects["green"] = replace(LIMITED, project=Project("green", "", 0))
    known = ("red", "green", "unknown")
    assert [await bench.apply(name) for name in known] == ["ok", "limited", "ok"]
    bench.database.is_away = True
    bench.clock.advance(REFRESH_AGE)
    assert await bench.apply() == "ok"
    await bench.settle()
    assert await bench.apply("other") == "unavailable"
    reads = len(bench.database.project_reads)
    assert await bench.apply("other") == "unavailable"
    assert len(bench.database.project_reads) == reads  # once per second only

    bench.clock.advance(MAX_STALE_AGE - REFRESH_AGE - 1)
    assert [await bench.apply(name) for name in known] == ["ok", "limited", "ok"]
    bench.clock.advance(1)
    assert [await bench.apply(name) for name in known] == ["unavailable"] * 3

    bench.database.is_away = False
    bench.clock.advance(RETRY_SECONDS)
    assert [await bench.apply(name) for name in known] == ["ok", "limited", "ok"]


async def test_bound(bench: Bench) -> None:
    """The projects in memory are bounded; those that were read first are forgotten."""
    for number in range(MAX_PROJECTS + 1):
        await bench.apply(f"p{number}")
    assert len(bench.projects._entries) == MAX_PROJECTS
    assert "p0" not in bench.projects._entries


async def test_cancelled_caller(bench: Bench) -> None:
    """A caller that goes away does not end the read that others wait for."""
    bench.database.is_open.clear()
    first, second = (asyncio.create_task(bench.apply()) for _ in range(2))
    await until(bench.is_reading)
    first.cancel()
    bench.database.is_open.set()
    assert await second == "ok"
    assert bench.database.project_reads == ["red"]
