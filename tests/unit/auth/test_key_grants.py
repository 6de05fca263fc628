"""The rights of a key follow from its own row and those of its project and owner."""

from dataclasses import replace
from typing import Any

import pytest

from maxgate.auth.identity import Identity
from maxgate.auth.key_grants import GrantedKey, read_grant
from maxgate.auth.key_verifier import StoredKey
from maxgate.generation.context import Principal, ProjectModels
from maxgate.stores.identity import AdminKey, KeyGrant, ModelPermissions, Project
from tests.fakes.identity_store import FakeIdentityStore


def build_grant(**fields: Any) -> KeyGrant:
    """Build the grant of a key with the digest `d`."""
    return FakeIdentityStore().add(b"d", **fields)


def read(grant: KeyGrant, digest: bytes = b"d") -> StoredKey:
    """Return the key of a grant that has one."""
    granted = read_grant(grant, digest)
    assert granted is not None
    return granted.key


def test_rights() -> None:
    """The identity has the key's project, owner and limits, and the project's models."""
    grant = build_grant(expires_at=5, models=("m",), networks=("10.0.0.0/8",), service_class="flex")
    permissions = ModelPermissions("red", "deny_list", ("n",))

    granted = read_grant(replace(grant, permissions=permissions), b"d")

    principal = Principal("red", "red", "ann", "key_d", "flex", "flex")
    identity = Identity(
        principal,
        frozenset({"m"}),
        ("10.0.0.0/8",),
        5.0,
        project_models=ProjectModels(frozenset({"n"}), is_denied=True),
    )
    assert granted == GrantedKey(
        StoredKey(b"d", identity), "key_d", frozenset({"key_d", "red", "ann"})
    )


def test_defaults() -> None:
    """A key without limits may use all models in every class, for ever."""
    principal = Principal("red", "red", "ann", "key_d", "default", "priority")

    assert read(build_grant()) == StoredKey(b"d", Identity(principal))


def test_allow_list() -> None:
    """An empty allow-list of the project allows nothing."""
    grant = replace(build_grant(), permissions=ModelPermissions("red", "allow_list", ()))

    assert read(grant).identity.project_models == ProjectModels(frozenset())


def test_unknown_class() -> None:
    """A service class of a later version is the lowest one."""
    principal = read(build_grant(service_class="scale")).identity.principal

    assert (principal.service_class, principal.highest_class) == ("flex", "flex")


@pytest.mark.parametrize(
    "change",
    [
        {"project": Project("red", "", 0, archived_at=1)},
        {"project": None},
        {"owner_role": None},
        {"owner_role": "none"},
    ],
)
def test_disabled(change: dict[str, Any]) -> None:
    """A key is refused without a project that is in use and an owner with a role in it."""
    assert not read(build_grant()).is_disabled
    assert read(replace(build_grant(), **change)).is_disabled


def test_blocked() -> None:
    """A blocked key is refused."""
    assert read(build_grant(blocked=True)).is_disabled


@pytest.mark.parametrize(
    ("expires_at", "grace_until", "expected"),
    [(None, 10, 10.0), (5, 10, 5.0), (20, 10, 10.0), (None, None, None)],
)
def test_rotation(expires_at: int | None, grace_until: int | None, expected: float | None) -> None:
    """The key before a rotation expires with the grace period, and has the same identity."""
    grant = build_grant(
        expires_at=expires_at, previous_digest=b"old", previous_expires_at=grace_until
    )

    found = read_grant(grant, b"old")

    assert (None if found is None else found.key.identity.expires_at) == expected
    if found is not None:
        assert found.key.digest == b"old"
        assert found.key.identity.principal == read(grant).identity.principal
    assert read(grant).identity.expires_at == expires_at


def test_admin_key() -> None:
    """An admin key may use the admin API until it expires, and no model."""
    grant = KeyGrant(AdminKey("key_a", "", b"d", "sk-mg-…", 0, expires_at=7))

    assert read_grant(grant, b"d") == GrantedKey(
        StoredKey(
            b"d",
            Identity(
                Principal("organization", "organization", "key_a", "key_a", "default"),
                frozenset(),
                expires_at=7,
                is_admin=True,
                can_use_models=False,
            ),
        ),
        "key_a",
        frozenset({"key_a"}),
    )


@pytest.mark.parametrize(
    "grant", [build_grant(), KeyGrant(AdminKey("key_a", "", b"d", "sk-mg-…", 0))]
)
def test_other_digest(grant: KeyGrant) -> None:
    """A row that does not have the digest is no key, whatever the database compared."""
    assert read_grant(grant, b"other") is None
