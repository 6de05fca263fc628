"""Changes of the organization: rules, audit log, keys that are shown once, and repetitions."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from maxgate.auth.api_key import hash_key, is_well_formed, redact
from maxgate.auth.organization import keys, people, projects
from maxgate.auth.organization.changes import Actor, Change, Idempotency, Organization
from maxgate.auth.organization.errors import IdempotencyKeyReused, PreconditionFailed
from maxgate.clock import SystemClock
from maxgate.errors import Conflict, InvalidRequest, NotFound
from maxgate.stores.identity import AuditFilter, Page
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.settings import DatabaseSettings

PEPPER = b"p" * 64
ADMIN = Actor("key_admin", "10.0.0.7")


class ReportedChanges:
    """Remembers the ids that were reported to other gateways."""

    def __init__(self) -> None:
        self.ids: list[set[str]] = []

    async def publish(self, ids: Any) -> None:
        self.ids.append(set(ids))


@pytest.fixture
def reported() -> ReportedChanges:
    """Reports to other gateways."""
    return ReportedChanges()


@pytest.fixture
async def organization(tmp_path: Path, reported: Any) -> AsyncIterator[Organization]:
    """An empty organization in SQLite."""
    store = open_identity_store(DatabaseSettings(), tmp_path)
    yield Organization(store, lambda: [PEPPER], SystemClock(), reported)
    await store.aclose()


async def create_account(change: Change) -> tuple[str, str]:
    """Create a project with a service account; returns their ids."""
    project = await projects.create_project(change, "Research")
    account = await people.create_service_account(change, project.id, "bot")
    return project.id, account.id


async def list_events(organization: Organization) -> list[str]:
    """Return the types of all events in the audit log."""
    async with organization.read() as rows:
        found = await rows.list_audit_events(Page(limit=100), AuditFilter())
    return [event.type for event in found.items]


async def test_new_key(organization: Organization, reported: ReportedChanges) -> None:
    """Only the HMAC and the ends of a new key are stored, and the change is reported."""
    async with organization.change(ADMIN) as change:
        project, account = await create_account(change)
        key, text = await keys.create_key(change, project, "service_account", account, "CI")
    async with organization.read() as rows:
        stored = await keys.get_key(rows, project, key.id)
        events = (await rows.list_audit_events(Page(), AuditFilter())).items
    assert is_well_formed(text)
    assert (stored.digest, stored.redacted_value) == (hash_key(text, PEPPER), redact(text))
    assert text not in repr((stored, events))
    assert [event.type for event in events] == [
        "project.created",
        "service_account.created",
        "api_key.created",
    ]
    assert {(event.actor_id, event.actor_address) for event in events} == {
        ("key_admin", "10.0.0.7")
    }
    assert reported.ids == [{project, account, key.id}]


async def test_failed_change(organization: Organization, reported: ReportedChanges) -> None:
    """A change that fails leaves nothing behind, and reports nothing."""
    with pytest.raises(NotFound):
        async with organization.change(ADMIN) as change:
            project, _ = await create_account(change)
            await keys.get_key(change.rows, project, "key_unknown")
    assert await list_events(organization) == []
    assert reported.ids == []


async def test_rotation(organization: Organization) -> None:
    """A rotated key keeps its id and owner; the old text is valid until the grace ends."""
    async with organization.change(ADMIN) as change:
        project, account = await create_account(change)
        old, old_text = await keys.create_key(change, project, "service_account", account, "CI")
        new, text = await keys.rotate_key(change, project, old.id, grace_seconds=60)
        now = change.now
    assert (new.id, new.owner_id, new.created_at) == (old.id, old.owner_id, old.created_at)
    assert (new.digest, new.previous_digest) == (
        hash_key(text, PEPPER),
        hash_key(old_text, PEPPER),
    )
    assert new.previous_expires_at == now + 60


async def test_repeated_request(organization: Organization) -> None:
    """A repeated request gets the same response, the key included, and changes nothing."""
    again = Idempotency("6f1c", b"create CI")

    async def create() -> dict[str, Any]:
        async with organization.change(ADMIN, again) as change:
            if change.replay is not None:
                return change.replay
            project, account = await create_account(change)
            key, text = await keys.create_key(change, project, "service_account", account, "CI")
            change.response = {"id": account, "api_key": {"id": key.id, "value": text}}
            return change.response

    first = await create()
    assert await create() == first
    assert len(await list_events(organization)) == 3
    with pytest.raises(IdempotencyKeyReused):
        async with organization.change(ADMIN, Idempotency("6f1c", b"create another")):
            pass


async def test_last_admin_key(organization: Organization) -> None:
    """The last admin key cannot be deleted."""
    async with organization.change(ADMIN) as change:
        first, _ = await keys.create_admin_key(change, "first")
        second, _ = await keys.create_admin_key(change, "second")
        await keys.delete_admin_key(change, first.id)
    with pytest.raises(Conflict):
        async with organization.change(ADMIN) as change:
            await keys.delete_admin_key(change, second.id)


async def test_expired_admin_key(organization: Organization) -> None:
    """An admin key that has expired does not count: the last valid one cannot be deleted."""
    async with organization.change(ADMIN) as change:
        await keys.create_admin_key(change, "old", expires_in=1)
        valid, _ = await keys.create_admin_key(change, "valid")
        change.now += 1
        with pytest.raises(Conflict):
            await keys.delete_admin_key(change, valid.id)


async def test_expired_key(organization: Organization) -> None:
    """A key that has expired is not rotated."""
    async with organization.change(ADMIN) as change:
        project, account = await create_account(change)
        limits = keys.KeyLimits(expires_in=1)
        key, _ = await keys.create_key(change, project, "service_account", account, "CI", limits)
        change.now += 1
        with pytest.raises(Conflict):
            await keys.rotate_key(change, project, key.id)


@pytest.mark.parametrize(
    "limits",
    [
        keys.KeyLimits(service_class="fast"),
        keys.KeyLimits(networks=["nonsense"]),
        keys.KeyLimits(networks=["10.0.0.0/8\x00"]),
        keys.KeyLimits(models=["a\x00"]),
        keys.KeyLimits(metadata={"a": "\x00"}),
        keys.KeyLimits(metadata={"a": "\ud800"}),
        keys.KeyLimits(metadata={"a": "x" * 8192}),
        keys.KeyLimits(expires_in=0),
    ],
    ids=repr,
)
async def test_invalid_limits(organization: Organization, limits: keys.KeyLimits) -> None:
    """Limits that cannot be meant, or cannot be stored, are refused."""
    with pytest.raises(InvalidRequest):
        async with organization.change(ADMIN) as change:
            project, account = await create_account(change)
            await keys.create_key(change, project, "service_account", account, "CI", limits)


async def test_metadata(organization: Organization) -> None:
    """Metadata are kept as they are."""
    metadata = {"team": "\U0001f600", "cost": [1, None]}
    async with organization.change(ADMIN) as change:
        project, account = await create_account(change)
        limits = keys.KeyLimits(metadata=metadata)
        key, _ = await keys.create_key(change, project, "service_account", account, "CI", limits)
    async with organization.read() as rows:
        assert (await keys.get_key(rows, project, key.id)).metadata == metadata


async def test_unknown_owner(organization: Organization) -> None:
    """A key needs an owner in its project."""
    for owner_type, owner in (("service_account", "svcacct_none"), ("user", "user-none")):
        with pytest.raises(NotFound):
            async with organization.change(ADMIN) as change:
                project, _ = await create_account(change)
                await keys.create_key(change, project, owner_type, owner, "CI")  # type: ignore[arg-type]


async def test_less_access_to_archived_project(organization: Organization) -> None:
    """Access to an archived project can still be taken away."""
    async with organization.change(ADMIN) as change:
        project, account = await create_account(change)
        key, _ = await keys.create_key(change, project, "service_account", account, "CI")
        member, _ = await people.add_project_user(change, project, "member", email="a@b.c")
        await projects.archive_project(change, project)
        await keys.set_blocked(change, project, key.id, blocked=True)
        await people.remove_project_user(change, project, member.user_id)
        await people.delete_service_account(change, project, account)
        with pytest.raises(Conflict):
            await people.create_service_account(change, project, "late")


async def test_version(organization: Organization) -> None:
    """A change of an object that was changed since it was read is refused."""
    async with organization.change(ADMIN) as change:
        project = await projects.create_project(change, "Research")
        await projects.rename_project(change, project.id, "Labs", version=project.version)
    with pytest.raises(PreconditionFailed):
        async with organization.change(ADMIN) as change:
            await projects.rename_project(change, project.id, "Old", version=project.version)


async def test_deleted_service_account(organization: Organization) -> None:
    """A service account is deleted with its keys."""
    async with organization.change(ADMIN) as change:
        project, account = await create_account(change)
        key, _ = await keys.create_key(change, project, "service_account", account, "CI")
        await people.delete_service_account(change, project, account)
        assert await change.rows.keys.find(project, key.id) is None


async def test_other_project(organization: Organization) -> None:
    """A key does not exist for another project."""
    async with organization.change(ADMIN) as change:
        project, account = await create_account(change)
        other, _ = await create_account(change)
        key, _ = await keys.create_key(change, project, "service_account", account, "CI")
        with pytest.raises(NotFound):
            await keys.delete_key(change, other, key.id)


@pytest.mark.parametrize(
    "name", ["", " ", "\u200b", "x" * 201, "a\nb", "\x00", "\u202ea", "\ud800", "sk-mg-x"]
)
async def test_invalid_name(organization: Organization, name: str) -> None:
    """Names that are empty, too long, unprintable or keys are refused."""
    with pytest.raises(InvalidRequest) as caught:
        async with organization.change(ADMIN) as change:
            await projects.create_project(change, name)
    assert caught.value.param == "name"
