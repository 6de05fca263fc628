"""Keys in a database, as the admin API writes them."""

from dataclasses import replace
from time import time
from typing import Any

from maxgate.auth.api_key import generate_key, hash_key
from maxgate.stores.identity import (
    AdminKey,
    ApiKey,
    IdentityStore,
    Project,
    ServiceAccount,
)
from tests.fakes.api_keys import PEPPER


class StoredKeys:
    """Adds and changes keys of service accounts, each in a project `proj_ID`."""

    def __init__(self, store: IdentityStore, *, pepper: str = PEPPER) -> None:
        self.store = store
        self._pepper = pepper.encode()

    async def add(self, key_id: str = "key_1", **fields: Any) -> str:
        """Add a key with these fields and its project, and return it."""
        key, project_id, owner_id = generate_key(), f"proj_{key_id}", f"svcacct_{key_id}"
        row: dict[str, Any] = {
            "project_id": project_id,
            "id": key_id,
            "name": "",
            "owner_type": "service_account",
            "owner_id": owner_id,
            "digest": hash_key(key, self._pepper),
            "redacted_value": "sk-mg-…",
            "created_at": int(time()),
        }
        async with self.store.transaction() as transaction:
            await transaction.projects.add(Project(project_id, "", int(time())))
            account = ServiceAccount(project_id, owner_id, "", "member", int(time()))
            await transaction.service_accounts.add(account)
            await transaction.keys.add(ApiKey(**{**row, **fields}))
        return key

    async def add_admin(self, key_id: str = "key_admin") -> str:
        """Add an admin key, and return it."""
        key = generate_key()
        row = AdminKey(key_id, "", hash_key(key, self._pepper), "sk-mg-…", int(time()))
        async with self.store.transaction() as transaction:
            await transaction.admin_keys.add(row)
        return key

    async def change(self, key_id: str = "key_1", **fields: Any) -> None:
        """Change fields of a key."""
        async with self.store.transaction() as transaction:
            row = await transaction.keys.find(f"proj_{key_id}", key_id)
            assert row is not None
            await transaction.keys.update(replace(row, **fields))

    async def find(self, key_id: str = "key_1") -> ApiKey:
        """Return a key as it is stored."""
        async with self.store.transaction() as transaction:
            row = await transaction.keys.find(f"proj_{key_id}", key_id)
        assert row is not None
        return row
