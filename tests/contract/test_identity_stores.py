"""The store of identities has the same rules in both databases."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from maxgate.stores.database import RETRY_SECONDS
from maxgate.stores.identity import (
    AdminKey,
    AlreadyExists,
    ApiKey,
    AuditEvent,
    AuditFilter,
    IdempotentRequest,
    KeyGrant,
    Listing,
    ModelPermissions,
    Page,
    Project,
    ProjectGrant,
    ProjectUser,
    ServiceAccount,
    StoreUnavailable,
    UnknownCursor,
    User,
    VersionConflict,
)
from maxgate.stores.identity_rows import DELETED_SECONDS
from maxgate.stores.identity_store import REPLAY_SECONDS, SqlIdentityStore, open_identity_store
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
from maxgate.stores.tables import METADATA
from tests.fakes.clock import FakeClock
from tests.fakes.postgres_server import PostgresServer

PROJECT = Project("proj_a", "A", 100)
OTHER = Project("proj_b", "B", 200)
ANN = User("user-ann", "Ann@Example.com", "Ann", "owner", 100)
MEMBER = ProjectUser("proj_a", "user-ann", "member", 110)
ACCOUNT = ServiceAccount("proj_a", "svcacct_1", "batch", "owner", 120)
KEY = ApiKey(
    project_id="proj_a",
    id="key_1",
    name="laptop",
    owner_type="user",
    owner_id="user-ann",
    digest=b"\x00\xffcurrent",
    redacted_value="sk-mg-...abcd",
    created_at=130,
    expires_at=10_000_000_000,
    previous_digest=b"previous",
    previous_expires_at=150,
    service_class="flex",
    models=("llama", "qwen"),
    networks=("10.0.0.0/8",),
    metadata={"team": "x", "list": [1, None, "ü"]},
)
PLAIN_KEY = ApiKey(
    "proj_a", "key_2", "bot", "service_account", "svcacct_1", b"bot", "sk-mg-...efgh", 140
)
ADMIN = AdminKey("key_admin", "root", b"admin", "sk-mg-...wxyz", 150)
PERMISSIONS = ModelPermissions("proj_a", "deny_list", ("llama",))
EVENT = AuditEvent(
    "audit_log-1", "project.created", 100, "key_admin", "127.0.0.1", "proj_a", "A", {"name": "A"}
)


@pytest.fixture(scope="module")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, to be copied."""
    folder = tmp_path_factory.mktemp("sqlite")
    upgrade_database(DatabaseSettings(), folder)
    return folder / "maxgate.db"


@pytest.fixture(scope="module")
def postgres_settings(postgres: PostgresServer, tmp_path_factory) -> DatabaseSettings:
    """A schema, to be emptied."""
    found = DatabaseSettings(url=postgres.url, schema_name=f"test_{uuid4().hex}")
    upgrade_database(found, tmp_path_factory.mktemp("postgres"))
    return found


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseSettings:
    """An empty database of each kind."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_file"), tmp_path)
        return DatabaseSettings()
    found: DatabaseSettings = request.getfixturevalue("postgres_settings")
    tables = ", ".join(f"{found.schema_name}.{name}" for name in METADATA.tables)
    request.getfixturevalue("postgres").execute(f"TRUNCATE {tables}")
    return found


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def store(
    settings: DatabaseSettings, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[SqlIdentityStore]:
    """An empty store."""
    opened = open_identity_store(settings, tmp_path, clock=clock)
    yield opened
    await opened.aclose()


@pytest.fixture
async def filled(store: SqlIdentityStore) -> SqlIdentityStore:
    """A store with a row of each kind."""
    async with store.transaction() as rows:
        await rows.projects.add(PROJECT)
        await rows.projects.add(OTHER)
        await rows.users.add(ANN)
        await rows.project_users.add(MEMBER)
        await rows.service_accounts.add(ACCOUNT)
        await rows.keys.add(KEY)
        await rows.keys.add(PLAIN_KEY)
        await rows.admin_keys.add(ADMIN)
        await rows.model_permissions.add(PERMISSIONS)
    return store


async def test_find(filled: SqlIdentityStore) -> None:
    """Each kind of row is found as it was added."""
    async with filled.transaction() as rows:
        found = [
            await rows.projects.find("proj_a"),
            await rows.users.find("user-ann"),
            await rows.project_users.find("proj_a", "user-ann"),
            await rows.service_accounts.find("proj_a", "svcacct_1"),
            await rows.keys.find("proj_a", "key_1"),
            await rows.keys.find("proj_a", "key_2"),
            await rows.admin_keys.find("key_admin"),
            await rows.model_permissions.find("proj_a"),
        ]
    assert found == [PROJECT, ANN, MEMBER, ACCOUNT, KEY, PLAIN_KEY, ADMIN, PERMISSIONS]


async def test_find_project(filled: SqlIdentityStore) -> None:
    """A project is found with its permissions, also when it is archived."""
    archived = replace(OTHER, archived_at=300)
    async with filled.transaction() as rows:
        await rows.projects.update(archived)
    found = [await filled.find_project(name) for name in ("proj_a", "proj_b", "proj_c", "a\0")]
    expected = ProjectGrant(PROJECT, PERMISSIONS), ProjectGrant(replace(archived, version=2))
    assert found == [*expected, None, None]


async def test_unknown_rows(filled: SqlIdentityStore) -> None:
    """An unknown key names no row, not even with a character that PostgreSQL refuses."""
    async with filled.transaction() as rows:
        found = [await rows.projects.find(key) for key in ("", "proj", "PROJ_A", "proj_a\0")]
        deleted = [await rows.projects.delete(key) for key in ("", "proj", "proj_a\0")]
        listed = await rows.users.list(Page(), email=["\0", "nobody@example.com"])
    assert (found, deleted, listed) == ([None] * 4, [False] * 3, Listing([], False))


async def test_other_project(filled: SqlIdentityStore) -> None:
    """Rows of another project do not exist."""
    async with filled.transaction() as rows:
        found = [
            await rows.project_users.find("proj_b", "user-ann"),
            await rows.service_accounts.find("proj_b", "svcacct_1"),
            await rows.keys.find("proj_b", "key_1"),
            await rows.model_permissions.find("proj_b"),
        ]
        deleted = [
            await rows.project_users.delete("proj_b", "user-ann"),
            await rows.service_accounts.delete("proj_b", "svcacct_1"),
            await rows.keys.delete("proj_b", "key_1"),
            await rows.model_permissions.delete("proj_b"),
        ]
        listed = [
            await rows.project_users.list(Page(), project_id="proj_b"),
            await rows.service_accounts.list(Page(), project_id="proj_b"),
            await rows.keys.list(Page(), project_id="proj_b"),
            await rows.model_permissions.list(Page(), project_id="proj_b"),
        ]
        with pytest.raises(VersionConflict):
            await rows.keys.update(replace(KEY, project_id="proj_b", name="stolen"))
        with pytest.raises(UnknownCursor):
            await rows.keys.list(Page(after="key_1"), project_id="proj_b")
        kept = await rows.keys.find("proj_a", "key_1")
    assert (found, deleted, listed) == ([None] * 4, [False] * 4, [Listing([], False)] * 4)
    assert kept == KEY


@pytest.mark.parametrize("kind", ["project_users", "service_accounts", "keys", "model_permissions"])
async def test_list_without_project(filled: SqlIdentityStore, kind: str) -> None:
    """Rows of all projects cannot be listed by mistake."""
    async with filled.transaction() as rows:
        with pytest.raises(TypeError, match="project_id"):
            await getattr(rows, kind).list(Page())


async def test_same_id_in_two_projects(filled: SqlIdentityStore) -> None:
    """A user is a member of several projects, each by a row of its own."""
    other = ProjectUser("proj_b", "user-ann", "owner", 300)
    async with filled.transaction() as rows:
        await rows.project_users.add(other)
        assert await rows.project_users.delete("proj_a", "user-ann")
        found = await rows.project_users.list(Page(), project_id=["proj_a", "proj_b"])
    assert found == Listing([other], False)


async def add_projects(store: SqlIdentityStore, names: str) -> None:
    """Add projects of the same second, whose ids are not in the order of their creation."""
    async with store.transaction() as rows:
        for name in names:
            await rows.projects.add(Project(name, f"Project {name}", 100))


@pytest.mark.parametrize(
    ("page", "ids", "has_more"),
    [
        (Page(), "dbeac", False),
        (Page(limit=5), "dbeac", False),
        (Page(limit=2), "db", True),
        (Page(limit=2, after="b"), "ea", True),
        (Page(limit=2, after="a"), "c", False),
        (Page(after="c"), "", False),
        (Page(limit=2, before="a"), "be", True),
        (Page(limit=2, before="e"), "db", False),
        (Page(before="d"), "", False),
        (Page(after="d", before="c"), "bea", False),
        (Page(order="desc"), "caebd", False),
        (Page(order="desc", limit=2), "ca", True),
        (Page(order="desc", limit=2, after="a"), "eb", True),
        (Page(order="desc", limit=2, before="b"), "ae", True),
        (Page(order="desc", after="c", before="d"), "aeb", False),
    ],
)
async def test_pages(store: SqlIdentityStore, page: Page, ids: str, has_more: bool) -> None:
    """A page has the items after or before another one, in the order of their creation."""
    await add_projects(store, "dbeac")
    async with store.transaction() as rows:
        items, more = await rows.projects.list(page)
    assert ("".join(item.id for item in items), more) == (ids, has_more)


async def test_cursor_outside_of_filter(store: SqlIdentityStore) -> None:
    """A list goes on after an item that was changed and is not in it any more."""
    await add_projects(store, "abc")
    async with store.transaction() as rows:
        project = await rows.projects.find("b")
        assert project is not None
        await rows.projects.update(replace(project, archived_at=200))
        items, _ = await rows.projects.list(Page(after="b"), archived_at=None)
    assert [item.id for item in items] == ["c"]


@pytest.mark.parametrize("deleted", ["b", "ab", "bc", "abc"])
async def test_deleted_cursor(store: SqlIdentityStore, deleted: str) -> None:
    """A list goes on after and before a deleted item, also to items that were added later."""
    await add_projects(store, "abc")
    async with store.transaction() as rows:
        for name in deleted:
            assert await rows.projects.delete(name)
        await rows.projects.add(Project("Z", "", 100))  # before all others by its name
        after, _ = await rows.projects.list(Page(after="b"))
        before, _ = await rows.projects.list(Page(before="b"))
    left = [name for name in "abc" if name not in deleted]
    assert [item.id for item in after] == [*(name for name in left if name == "c"), "Z"]
    assert [item.id for item in before] == [name for name in left if name == "a"]


async def test_deleted_cursors_of_project(filled: SqlIdentityStore) -> None:
    """Rows that were deleted with others are known, too, but in their own project only."""
    async with filled.transaction() as rows:
        await rows.users.delete("user-ann")
        await rows.service_accounts.delete("proj_a", "svcacct_1")
        await rows.keys.delete("proj_a", "key_1")
        for kind, cursor in (
            (rows.project_users, "user-ann"),
            (rows.service_accounts, "svcacct_1"),
            (rows.keys, "key_1"),
        ):
            page = Page(after=cursor)
            found = await kind.list(page, project_id="proj_a")  # type: ignore[attr-defined]
            assert found == Listing([PLAIN_KEY] if kind is rows.keys else [], False)
            with pytest.raises(UnknownCursor):
                await kind.list(page, project_id="proj_b")  # type: ignore[attr-defined]
        with pytest.raises(UnknownCursor):
            await rows.projects.list(Page(after="key_1"))


async def test_member_again(filled: SqlIdentityStore) -> None:
    """The cursor of a member that has left and joined again is its present row."""
    async with filled.transaction() as rows:
        for _ in range(2):
            assert await rows.project_users.delete("proj_a", "user-ann")
            await rows.project_users.add(MEMBER)
        bob = User("user-bob", "bob@example.com", "Bob", "reader", 100)
        await rows.users.add(bob)
        await rows.project_users.add(replace(MEMBER, user_id="user-bob"))
        found, _ = await rows.project_users.list(Page(after="user-ann"), project_id="proj_a")
    assert [member.user_id for member in found] == ["user-bob"]


async def test_old_cursor(store: SqlIdentityStore, clock: FakeClock) -> None:
    """A week after its deletion, an item is forgotten with the next deletion."""
    await add_projects(store, "abc")
    async with store.transaction() as rows:
        await rows.projects.delete("a")
        clock.advance(DELETED_SECONDS - 1)
        await rows.projects.delete("b")
        assert [item.id for item in (await rows.projects.list(Page(after="a"))).items] == ["c"]
        clock.advance(1)
        await rows.projects.delete("c")
        with pytest.raises(UnknownCursor):
            await rows.projects.list(Page(after="a"))
        assert await rows.projects.list(Page(after="b")) == Listing([], False)


@pytest.mark.parametrize("page", [Page(after="x"), Page(before="x"), Page(after="\0")])
async def test_unknown_cursor(store: SqlIdentityStore, page: Page) -> None:
    """A cursor that is not in the list is an error."""
    await add_projects(store, "a")
    async with store.transaction() as rows:
        with pytest.raises(UnknownCursor):
            await rows.projects.list(page)
        with pytest.raises(UnknownCursor):
            await rows.list_audit_events(page, AuditFilter())


async def test_list_filters(filled: SqlIdentityStore) -> None:
    """A list has the rows with one value, one of several, or none."""
    async with filled.transaction() as rows:
        listed = [
            await rows.keys.list(Page(), project_id="proj_a"),
            await rows.keys.list(Page(), project_id="proj_a", owner_id="svcacct_1"),
            await rows.keys.list(Page(), project_id="proj_a", owner_id=["svcacct_1", "user-ann"]),
            await rows.keys.list(Page(), project_id="proj_a", owner_id=[]),
            await rows.keys.list(Page(), project_id="proj_a", service_class=None),
            await rows.users.list(Page(), email="ANN@example.com"),
        ]
    assert [items for items, _ in listed] == [
        [KEY, PLAIN_KEY],
        [PLAIN_KEY],
        [KEY, PLAIN_KEY],
        [],
        [PLAIN_KEY],
        [ANN],
    ]


async def test_update(filled: SqlIdentityStore) -> None:
    """An update replaces all fields and counts the version."""
    changed = replace(
        KEY,
        name="desk",
        digest=b"new",
        previous_digest=KEY.digest,
        previous_expires_at=900,
        models=None,
        networks=(),
        blocked=True,
        metadata={},
        expires_at=None,
    )
    async with filled.transaction() as rows:
        stored = await rows.keys.update(changed)
    async with filled.transaction() as rows:
        found = await rows.keys.find("proj_a", "key_1")
    assert stored == found == replace(changed, version=2)


async def test_version_conflict(filled: SqlIdentityStore) -> None:
    """A row that was changed or deleted since it was read is not updated."""
    async with filled.transaction() as rows:
        current = await rows.projects.update(replace(PROJECT, name="first"))
        with pytest.raises(VersionConflict, match="proj_a"):
            await rows.projects.update(replace(PROJECT, name="second"))
        found = await rows.projects.find("proj_a")
        await rows.users.delete("user-ann")
        with pytest.raises(VersionConflict):
            await rows.users.update(ANN)
    assert found == current == Project("proj_a", "first", 100, version=2)


async def test_rotation_keeps_use(filled: SqlIdentityStore) -> None:
    """An update does not undo that a key was used since it was read."""
    await filled.touch_keys({"key_1": 500})
    async with filled.transaction() as rows:
        stored = await rows.keys.update(replace(KEY, name="new"))
    assert stored == replace(KEY, name="new", last_used_at=500, version=2)


async def test_existing_ids(filled: SqlIdentityStore) -> None:
    """A second row with an id is refused, and the transaction goes on."""
    async with filled.transaction() as rows:
        for add, row in (
            (rows.projects.add, PROJECT),
            (rows.users.add, replace(ANN, email="other@example.com")),
            (rows.project_users.add, MEMBER),
            (rows.service_accounts.add, ACCOUNT),
            (rows.keys.add, replace(KEY, digest=b"x", previous_digest=None)),
            (rows.admin_keys.add, replace(ADMIN, digest=b"y")),
            (rows.model_permissions.add, PERMISSIONS),
        ):
            with pytest.raises(AlreadyExists):
                await add(row)
        await rows.projects.add(Project("proj_c", "C", 300))
    async with filled.transaction() as rows:
        listed = await rows.projects.list(Page())
    assert listed == Listing([PROJECT, OTHER, Project("proj_c", "C", 300)], False)


async def test_unique_email(filled: SqlIdentityStore) -> None:
    """An e-mail address belongs to one user, whatever its case."""
    bob = User("user-bob", "bob@example.com", "Bob", "reader", 200)
    async with filled.transaction() as rows:
        await rows.users.add(bob)
        with pytest.raises(AlreadyExists):
            await rows.users.add(User("user-2", "aNN@eXample.COM", "Ann", "reader", 200))
        with pytest.raises(AlreadyExists):
            await rows.users.update(replace(bob, email="ann@example.com"))
        same = await rows.users.update(replace(bob, email="BOB@example.com"))
    assert same == replace(bob, email="BOB@example.com", version=2)


@pytest.mark.parametrize("digest", [KEY.digest, KEY.previous_digest, ADMIN.digest])
async def test_unique_digests(filled: SqlIdentityStore, digest: bytes) -> None:
    """No two keys share a digest, be it their current or previous one."""
    async with filled.transaction() as rows:
        for row in (
            replace(PLAIN_KEY, id="key_3", digest=digest),
            replace(PLAIN_KEY, id="key_3", digest=b"free", previous_digest=digest),
        ):
            with pytest.raises(AlreadyExists):
                await rows.keys.add(row)
        with pytest.raises(AlreadyExists):
            await rows.admin_keys.add(replace(ADMIN, id="key_other", digest=digest))
        with pytest.raises(AlreadyExists):
            await rows.keys.update(replace(PLAIN_KEY, digest=digest))
        kept = await rows.keys.list(Page(), project_id="proj_a")
    assert kept == Listing([KEY, PLAIN_KEY], False)


async def test_missing_parent(filled: SqlIdentityStore) -> None:
    """A row of a project or user that was deleted meanwhile is refused."""
    async with filled.transaction() as rows:
        with pytest.raises(VersionConflict):
            await rows.service_accounts.add(replace(ACCOUNT, project_id="proj_gone"))
        with pytest.raises(VersionConflict):
            await rows.project_users.add(replace(MEMBER, user_id="user-gone"))


async def test_rollback(filled: SqlIdentityStore) -> None:
    """An exception undoes the whole transaction."""
    with suppress(KeyError):
        async with filled.transaction() as rows:
            await rows.projects.update(replace(PROJECT, name="changed"))
            await rows.keys.delete("proj_a", "key_1")
            await rows.add_audit_event(EVENT)
            raise KeyError
    async with filled.transaction() as rows:
        found = [await rows.projects.find("proj_a"), await rows.keys.find("proj_a", "key_1")]
        events = await rows.list_audit_events(Page(), AuditFilter())
    assert (found, events) == ([PROJECT, KEY], Listing([], False))


async def test_deleted_user(filled: SqlIdentityStore) -> None:
    """With a user its memberships are deleted; its keys stay, without an owner."""
    async with filled.transaction() as rows:
        assert await rows.users.delete("user-ann")
        members = await rows.project_users.list(Page(), project_id="proj_a")
        key = await rows.keys.find("proj_a", "key_1")
    grant = await filled.find_grant([KEY.digest])
    assert (members, key) == (Listing([], False), KEY)
    assert grant == KeyGrant(KEY, PROJECT, None, PERMISSIONS)


async def test_deleted_project(filled: SqlIdentityStore) -> None:
    """With a project its parts are deleted, and its keys are unknown."""
    async with filled.transaction() as rows:
        assert await rows.projects.delete("proj_a")
        left = [
            await rows.project_users.list(Page(), project_id="proj_a"),
            await rows.service_accounts.list(Page(), project_id="proj_a"),
            await rows.keys.list(Page(), project_id="proj_a"),
            await rows.model_permissions.list(Page(), project_id="proj_a"),
        ]
        users = await rows.users.list(Page())
    assert left == [Listing([], False)] * 4
    assert users == Listing([ANN], False)
    assert await filled.find_grant([KEY.digest, KEY.previous_digest or b""]) is None


@pytest.mark.parametrize(
    ("digest", "grant"),
    [
        (KEY.digest, KeyGrant(KEY, PROJECT, "member", PERMISSIONS)),
        (KEY.previous_digest, KeyGrant(KEY, PROJECT, "member", PERMISSIONS)),
        (PLAIN_KEY.digest, KeyGrant(PLAIN_KEY, PROJECT, "owner", PERMISSIONS)),
        (ADMIN.digest, KeyGrant(ADMIN)),
        (b"unknown", None),
    ],
)
async def test_grant(filled: SqlIdentityStore, digest: bytes, grant: KeyGrant | None) -> None:
    """A key is found by its current or previous digest, with all that decides about it."""
    assert await filled.find_grant([b"of another pepper", digest]) == grant


async def test_grant_of_owner_in_other_project(filled: SqlIdentityStore) -> None:
    """Memberships, accounts and permissions of another project give no right."""
    keys = [
        replace(PLAIN_KEY, project_id="proj_b", id="key_b1", digest=b"b1"),
        replace(KEY, project_id="proj_b", id="key_b2", digest=b"b2", previous_digest=None),
    ]
    async with filled.transaction() as rows:
        for key in keys:
            await rows.keys.add(key)
    grants = [await filled.find_grant([key.digest]) for key in keys]
    assert grants == [KeyGrant(key, OTHER, None, None) for key in keys]


async def test_grant_after_rotation(filled: SqlIdentityStore) -> None:
    """Digests before the previous one, and those of deleted keys, are unknown."""
    rotated = replace(KEY, digest=b"third", previous_digest=KEY.digest)
    async with filled.transaction() as rows:
        rotated = await rows.keys.update(rotated)
        await rows.keys.delete("proj_a", "key_2")
        await rows.admin_keys.delete("key_admin")
    digests = [b"third", KEY.digest, KEY.previous_digest, PLAIN_KEY.digest, ADMIN.digest]
    grants = [await filled.find_grant([digest]) for digest in digests if digest]
    grant = KeyGrant(rotated, PROJECT, "member", PERMISSIONS)
    assert grants == [grant, grant, None, None, None]


async def test_grant_without_digests(filled: SqlIdentityStore) -> None:
    """No digest finds no key."""
    assert await filled.find_grant([]) is None


async def test_key_by_digest(filled: SqlIdentityStore) -> None:
    """A project's key is found by its current digest only."""
    async with filled.transaction() as rows:
        found = [
            await rows.find_key_by_digest([b"unknown", KEY.digest]),
            await rows.find_key_by_digest([KEY.previous_digest or b""]),
            await rows.find_key_by_digest([ADMIN.digest]),
            await rows.find_key_by_digest([]),
        ]
    assert found == [KEY, None, None, None]


async def test_touch(filled: SqlIdentityStore) -> None:
    """The time of the last use only grows, and is no change of the row's version."""
    await filled.touch_keys({})
    await filled.touch_keys({"key_1": 500, "key_admin": 600, "key_unknown": 1})
    await filled.touch_keys({"key_1": 400, "key_2": 700})
    async with filled.transaction() as rows:
        keys = await rows.keys.list(Page(), project_id="proj_a")
        admins = await rows.admin_keys.list(Page())
    assert keys.items == [replace(KEY, last_used_at=500), replace(PLAIN_KEY, last_used_at=700)]
    assert admins.items == [replace(ADMIN, last_used_at=600)]


EVENTS = [
    EVENT,
    AuditEvent("audit_log-2", "user.added", 200, "cli"),
    AuditEvent("audit_log-3", "project.archived", 300, "key_2", None, "proj_b", "B"),
]


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        (AuditFilter(), [0, 1, 2]),
        (AuditFilter(types=["user.added", "project.archived"]), [1, 2]),
        (AuditFilter(types=[]), []),
        (AuditFilter(actor_ids=["cli"]), [1]),
        (AuditFilter(project_ids=["proj_a", "proj_b"]), [0, 2]),
        (AuditFilter(project_ids=[""]), []),
        (AuditFilter(gt=100, lt=300), [1]),
        (AuditFilter(gte=100, lte=200), [0, 1]),
        (AuditFilter(gt=-(10**30), lt=10**30), [0, 1, 2]),
        (AuditFilter(gte=10**30), []),
        (AuditFilter(gte=200, actor_ids=["key_2", "\0"], project_ids=["proj_b"]), [2]),
    ],
)
async def test_audit_log(store: SqlIdentityStore, where: AuditFilter, numbers: list[int]) -> None:
    """Events are listed whole, by what happened, who did it, where and when."""
    async with store.transaction() as rows:
        for event in EVENTS:
            await rows.add_audit_event(event)
        found = await rows.list_audit_events(Page(), where)
    assert found == Listing([EVENTS[number] for number in numbers], False)


async def test_audit_pages(store: SqlIdentityStore) -> None:
    """Events are listed page by page, the newest first if that is wanted."""
    async with store.transaction() as rows:
        for event in EVENTS:
            await rows.add_audit_event(event)
        newest = await rows.list_audit_events(Page(limit=1, order="desc"), AuditFilter())
        older = Page(limit=5, order="desc", after="audit_log-3")
        rest = await rows.list_audit_events(older, AuditFilter())
    assert (newest, rest) == (Listing(EVENTS[2:], True), Listing(EVENTS[1::-1], False))


async def test_idempotent_requests(store: SqlIdentityStore, clock: FakeClock) -> None:
    """A request is remembered for a day, for its actor only."""
    body = {"id": "proj_a", "z": 1, "a": [None, "ü\u0000"]}
    request = IdempotentRequest("key_a", b"k", b"f", b"s", body, int(clock.wall()))
    async with store.transaction() as rows:
        await rows.add_idempotent_request(request)
        with pytest.raises(AlreadyExists):
            await rows.add_idempotent_request(replace(request, fingerprint=b"other"))
        found = [
            await rows.find_idempotent_request("key_a", b"k"),
            await rows.find_idempotent_request("key_b", b"k"),
            await rows.find_idempotent_request("key_a", b"l"),
        ]
    assert found == [request, None, None]
    assert found[0] is not None
    assert list(found[0].response) == ["id", "z", "a"]

    clock.advance(REPLAY_SECONDS)
    async with store.transaction() as rows:
        assert await rows.find_idempotent_request("key_a", b"k") is None
        await rows.add_idempotent_request(replace(request, created_at=int(clock.wall())))


async def test_concurrent_updates(filled: SqlIdentityStore) -> None:
    """Of changes to one version of a row, one takes effect."""

    async def rename(name: str) -> str | None:
        with suppress(VersionConflict):
            async with filled.transaction() as rows:
                return (await rows.projects.update(replace(PROJECT, name=name))).name
        return None

    names = await asyncio.gather(*(rename(f"name {number}") for number in range(5)))

    async with filled.transaction() as rows:
        found = await rows.projects.find("proj_a")
    winners = [name for name in names if name is not None]
    assert [found] == [Project("proj_a", name, 100, version=2) for name in winners]


async def test_concurrent_adds(store: SqlIdentityStore) -> None:
    """Of rows with one id that are added at once, one is stored."""

    async def add(name: str) -> bool:
        with suppress(AlreadyExists):
            async with store.transaction() as rows:
                await rows.projects.add(Project("proj_a", name, 100))
                return True
        return False

    added = await asyncio.gather(*(add(f"name {number}") for number in range(5)))
    assert sorted(added) == [False] * 4 + [True]


async def test_uncommitted_changes(filled: SqlIdentityStore) -> None:
    """Changes are seen once they are committed; a reader does not wait for the writer."""
    async with filled.transaction() as rows:
        await rows.keys.delete("proj_a", "key_1")
        during = await filled.find_grant([KEY.digest])
    after = await filled.find_grant([KEY.digest])
    assert (during, after) == (KeyGrant(KEY, PROJECT, "member", PERMISSIONS), None)


async def test_cancelled_transaction(filled: SqlIdentityStore) -> None:
    """A cancelled transaction is undone, and its connection does not block others."""
    has_changed = asyncio.Event()

    async def change() -> None:
        async with filled.transaction() as rows:
            await rows.projects.update(replace(PROJECT, name="changed"))
            has_changed.set()
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(change())]
    await has_changed.wait()
    tasks[0].cancel()
    await asyncio.wait(tasks)
    async with filled.transaction() as rows:
        assert await rows.projects.update(replace(PROJECT, name="next"))


async def test_busy_pool(settings: DatabaseSettings, tmp_path: Path) -> None:
    """A call that gets no connection in time fails, and the database does not count as down."""
    store = open_identity_store(
        settings.model_copy(update={"pool_size": 1, "timeout": 1.0}), tmp_path
    )
    async with store.transaction():
        with pytest.raises(StoreUnavailable):
            await store.find_grant([b"x"])
    assert await store.find_grant([b"x"]) is None
    await store.aclose()


async def test_locked_row(filled: SqlIdentityStore, settings: DatabaseSettings, tmp_path: Path):
    """A writer that waits too long for another one fails, and can be repeated."""
    impatient = open_identity_store(settings.model_copy(update={"timeout": 1.0}), tmp_path)
    async with filled.transaction() as rows:
        await rows.projects.update(replace(PROJECT, name="first"))
        with pytest.raises(StoreUnavailable):
            async with impatient.transaction() as waiting:
                await waiting.projects.update(replace(PROJECT, name="second"))
    async with impatient.transaction() as rows:
        found = await rows.projects.find("proj_a")
    await impatient.aclose()
    assert found == Project("proj_a", "first", 100, version=2)


async def test_sqlite_files(tmp_path: Path) -> None:
    """The files of SQLite are for this user only."""
    store = open_identity_store(DatabaseSettings(), tmp_path / "state")
    await store.touch_keys({"key_1": 1})
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()}
    await store.aclose()
    assert modes == {"maxgate.db": 0o600, "maxgate.db-shm": 0o600, "maxgate.db-wal": 0o600}


async def test_one_query(filled: SqlIdentityStore, settings: DatabaseSettings) -> None:
    """A look-up of a key is one query."""
    from sqlalchemy import event

    statements: list[str] = []
    engine = filled._database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    await filled.find_grant([KEY.digest])
    assert [text.split()[0] for text in statements if text != "BEGIN"] == ["SELECT"]


async def test_deleted_file(sqlite_file: Path, tmp_path: Path) -> None:
    """Nothing is written to a file that was deleted, and its replacement is used."""
    shutil.copy(sqlite_file, tmp_path)
    clock = FakeClock()
    opened = open_identity_store(DatabaseSettings(), tmp_path, clock=clock)
    async with opened.transaction() as rows:
        await rows.projects.add(PROJECT)
    for end in ("", "-wal", "-shm"):
        (tmp_path / f"maxgate.db{end}").unlink()
    with pytest.raises(StoreUnavailable, match="No such file"):
        async with opened.transaction():
            pass
    assert not (tmp_path / "maxgate.db").exists()

    shutil.copy(sqlite_file, tmp_path)
    clock.advance(RETRY_SECONDS)
    async with opened.transaction() as rows:
        assert await rows.projects.find(PROJECT.id) is None
        await rows.projects.add(PROJECT)
    await opened.aclose()
    again = open_identity_store(DatabaseSettings(), tmp_path)
    async with again.transaction() as rows:
        assert await rows.projects.find(PROJECT.id) == PROJECT
    await again.aclose()


async def test_damaged_database(sqlite_file: Path, tmp_path: Path) -> None:
    """An error of the database is not that of the caller, and shows no value."""
    shutil.copy(sqlite_file, tmp_path)
    with sqlite3.connect(tmp_path / "maxgate.db") as connection:
        connection.execute("ALTER TABLE key_digests RENAME TO gone")
    connection.close()
    store = open_identity_store(DatabaseSettings(), tmp_path)
    with pytest.raises(StoreUnavailable) as caught:
        await store.find_grant([b"secret digest"])
    await store.aclose()
    path = tmp_path / "maxgate.db"
    reason = f"the database at {path} is unavailable: no such table: key_digests"
    assert str(caught.value) == reason
