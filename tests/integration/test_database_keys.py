"""Keys in the default database: their rights, their revocation and their rotation, over HTTP."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

import httpx
import pytest

from maxgate.auth.api_key import generate_key, hash_key
from maxgate.stores.identity import ModelPermissions
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.api_keys import PEPPER, bearer
from tests.fakes.gateway import EMBEDDING_CARD, EMBEDDING_MODEL, SMALL_CARD, TLS, Gateway, start
from tests.fakes.max_server import FakeMax
from tests.fakes.processes import plain_uvicorn
from tests.fakes.stored_keys import StoredKeys

MODEL = "smollm2-135m-instruct"


@pytest.fixture
async def keys(tmp_path: Path) -> AsyncIterator[StoredKeys]:
    """The keys in the default database, as another process writes them."""
    store = open_identity_store(DatabaseSettings(), tmp_path)
    yield StoredKeys(store)
    await store.aclose()


@pytest.fixture
async def gateway(keys: StoredKeys, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with two models and these keys."""
    settings: dict[str, Any] = {
        "auth": {"mode": "keys", "pepper": [PEPPER]},
        "state_dir": tmp_path,
        "cards": [SMALL_CARD, EMBEDDING_CARD],
    }
    async with start(FakeMax(models=[MODEL, EMBEDDING_MODEL]), **settings) as started:
        yield started


async def send(gateway: Gateway, key: str, model: str | None = MODEL) -> tuple[int, str | None]:
    """Return status and error code of a chat request."""
    gateway.client.headers.update(bearer(key))
    response = await gateway.chat(**({} if model is None else {"model": model}))
    return response.status_code, response.json().get("error", {}).get("code")


async def list_models(gateway: Gateway, key: str) -> list[str]:
    """Return the names of the models that a key sees."""
    response = await gateway.client.get("/v1/models", headers=bearer(key))
    return [model["id"] for model in response.json()["data"]]


async def test_rights(gateway: Gateway, keys: StoredKeys) -> None:
    """Keys of two projects see and use the models that their projects may use, and no others."""
    free, denied, allowed = [await keys.add(name) for name in ("free", "denied", "allowed")]
    async with keys.store.transaction() as transaction:
        for project, mode, model in (
            ("denied", "deny_list", MODEL),
            ("allowed", "allow_list", MODEL),
        ):
            row = ModelPermissions(f"proj_{project}", mode, (model,))  # type: ignore[arg-type]
            await transaction.model_permissions.add(row)

    assert await send(gateway, free) == (200, None)
    assert await send(gateway, allowed) == (200, None)
    assert await send(gateway, denied) == (404, "model_not_found")
    assert set(await list_models(gateway, free)) == {MODEL, EMBEDDING_MODEL}
    assert await list_models(gateway, allowed) == [MODEL]
    assert await list_models(gateway, denied) == [EMBEDDING_MODEL]


@pytest.mark.parametrize(
    "fields",
    [{"blocked": True}, {"expires_at": 1}, {"networks": ("10.0.0.0/8",)}, {"owner_id": "gone"}],
    ids=["blocked", "expired", "other network", "no owner"],
)
async def test_refused(gateway: Gateway, keys: StoredKeys, fields: dict[str, Any]) -> None:
    """A key that must not be used gets the response of an unknown one."""
    key = await keys.add(**fields)

    assert await send(gateway, key) == (401, "invalid_api_key")
    assert await send(gateway, generate_key()) == (401, "invalid_api_key")


async def test_archived_project(gateway: Gateway, keys: StoredKeys) -> None:
    """The keys of an archived project are refused."""
    key = await keys.add()
    async with keys.store.transaction() as transaction:
        project = await transaction.projects.find("proj_key_1")
        assert project is not None
        await transaction.projects.update(replace(project, archived_at=int(time())))

    assert await send(gateway, key) == (401, "invalid_api_key")


@pytest.mark.parametrize(("seconds", "status"), [(3600, 200), (-1, 401)])
async def test_rotation(gateway: Gateway, keys: StoredKeys, seconds: int, status: int) -> None:
    """After a rotation, the old key works until the end of the grace period, and the new one."""
    old, new = await keys.add(), generate_key()
    row = await keys.find()
    await keys.change(
        digest=hash_key(new, PEPPER.encode()),
        previous_digest=row.digest,
        previous_expires_at=int(time()) + seconds,
    )

    assert [(await send(gateway, key))[0] for key in (old, new)] == [status, 200]


async def test_admin_keys(gateway: Gateway, keys: StoredKeys) -> None:
    """An admin key uses the admin API, and gets 403 on every route for models."""
    key = await keys.add_admin()

    assert await send(gateway, key) == (403, "insufficient_permissions")
    for path in ("/v1/completions", "/v1/embeddings", "/chat/completions"):
        response = await gateway.client.post(path, json={}, headers=bearer(key))
        assert response.status_code == 403, path
    assert (await gateway.client.get("/v1/models", headers=bearer(key))).status_code == 403
    assert (await gateway.client.get("/admin/engines", headers=bearer(key))).status_code == 200


async def test_no_configuration(tmp_path: Path) -> None:
    """With `auth.mode: keys` alone, the gateway creates its database and its pepper."""
    async with (
        plain_uvicorn(MAXGATE_AUTH__MODE="keys") as server,
        httpx.AsyncClient(base_url=server.url, verify=TLS) as client,
    ):
        response = await client.get("/v1/models", headers=bearer(generate_key()))
        modes = {
            name: (server.state_dir / name).stat().st_mode & 0o777
            for name in ("maxgate.db", "pepper")
        }

    assert response.status_code == 401
    assert modes == {"maxgate.db": 0o600, "pepper": 0o600}


async def test_no_database(tmp_path: Path) -> None:
    """Without a database, a file of keys is needed."""
    environment = {"MAXGATE_AUTH__MODE": "keys", "MAXGATE_DATABASE__URL": "none"}

    with pytest.raises(
        AssertionError, match="does not exist; `maxgate keys create --file` writes it"
    ):
        async with plain_uvicorn(**environment):
            pass
