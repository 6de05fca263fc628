"""LiteLLM's routes for keys, with requests in the form that its client and its users send.

`litellm.proxy.client` 1.79 sends the first ones: all keys of `data` that are set, and both fields
of a deletion, null or not.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from maxgate.auth.api_key import generate_key, is_well_formed
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.api_keys import PEPPER, bearer
from tests.fakes.gateway import SMALL_CARD, Gateway, start
from tests.fakes.max_server import FakeMax
from tests.fakes.stored_keys import StoredKeys

MODEL = "smollm2-135m-instruct"
NO_LIMITS: dict[str, Any] = {
    "max_budget": None,
    "soft_budget": None,
    "budget_duration": None,
    "tpm_limit": None,
    "rpm_limit": None,
    "max_parallel_requests": None,
    "model_tpm_limit": None,
    "model_rpm_limit": None,
}
LIMITS: dict[str, Any] = {
    "max_budget": 10.5,
    "soft_budget": 8.0,
    "budget_duration": "1mo",
    "tpm_limit": 1000,
    "rpm_limit": 0,
    "max_parallel_requests": 2,
    "model_tpm_limit": {MODEL: 500},
    "model_rpm_limit": {MODEL: 5, "qwen": 6},
}


@dataclass
class LiteLlmClient:
    """Sends LiteLLM's requests with an admin's key."""

    gateway: Gateway
    key: str

    async def post(self, path: str, **body: Any) -> httpx.Response:
        """Send a body to a path below /key."""
        headers = {"Content-Type": "application/json", **bearer(self.key)}
        return await self.gateway.client.post(f"/key/{path}", headers=headers, json=body)

    async def generate(self, **body: Any) -> dict[str, Any]:
        """Return a new key."""
        response = await self.post("generate", **body)
        assert response.status_code == 200, response.text
        generated: dict[str, Any] = response.json()
        return generated

    async def info(self, key: str) -> httpx.Response:
        """Send the request for a key's description."""
        url = f"/key/info?key={key}"
        return await self.gateway.client.get(url, headers=bearer(self.key))

    async def organization(self, method: str, path: str, **body: Any) -> Any:
        """Send a request to OpenAI's admin API; return the response."""
        url = f"/v1/organization{path}"
        response = await self.gateway.client.request(
            method, url, headers=bearer(self.key), json=body
        )
        return response.json()

    async def chat(self, key: str) -> int:
        """Return the status of a chat."""
        self.gateway.client.headers.update(bearer(key))
        return (await self.gateway.chat(model=MODEL)).status_code


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[LiteLlmClient]:
    """A gateway with SQLite and an admin key."""
    store = open_identity_store(DatabaseSettings(), tmp_path)
    key = await StoredKeys(store).add_admin()
    await store.aclose()
    settings: dict[str, Any] = {
        "auth": {"mode": "keys", "pepper": [PEPPER], "max_failures": 1_000_000},
        "state_dir": tmp_path,
        "cards": [SMALL_CARD],
    }
    async with start(FakeMax(models=[MODEL]), **settings) as gateway:
        yield LiteLlmClient(gateway, key)


async def test_generate(client: LiteLlmClient) -> None:
    """A key is generated in the default project, and the response has LiteLLM's fields."""
    key = await client.generate(
        models=[MODEL], aliases={}, duration="30d", key_alias="bot", config={}, metadata={"a": [1]}
    )
    assert is_well_formed(key["key"])
    assert key == {
        "key": key["key"],
        "token": key["token_id"],
        "token_id": key["token_id"],
        "key_name": f"{key['key'][:9]}...{key['key'][-4:]}",
        "key_alias": "bot",
        "team_id": "default",
        "user_id": key["user_id"],
        "models": [MODEL],
        "metadata": {"a": [1]},
        "blocked": False,
        "expires": key["expires"],
        "created_at": key["created_at"],
        "last_active": None,
        **NO_LIMITS,
    }
    assert key["expires"].endswith("+00:00")
    assert key["user_id"].startswith("svcacct_")
    assert await client.chat(key["key"]) == 200


async def test_info(client: LiteLlmClient) -> None:
    """A key is described by its text and by its id, without its text."""
    generated = await client.generate()
    responses = [await client.info(generated[name]) for name in ("key", "token")]
    shown = {name: generated[name] for name in generated if name not in {"key", "token_id"}}
    assert [response.json() for response in responses] == [
        {"key": generated["token"], "info": {**shown, "spend": None}}
    ] * 2


async def test_limits(client: LiteLlmClient) -> None:
    """A key is generated with limits and a budget, which all its descriptions have."""
    key = await client.generate(**LIMITS)
    shown = {name: key[name] for name in LIMITS}
    assert shown == LIMITS
    info = (await client.info(key["token"])).json()["info"]
    blocked = (await client.post("block", key=key["token"])).json()
    rotated = (await client.post("regenerate", key=key["token"])).json()
    assert [{name: found[name] for name in LIMITS} for found in (info, blocked, rotated)] == [
        LIMITS
    ] * 3


@pytest.mark.parametrize(
    ("duration", "shown"),
    [
        ("1h", "1h"),
        ("24h", "1d"),
        ("1d", "1d"),
        ("1w", "7d"),
        ("7d", "7d"),
        ("30d", "1mo"),
        ("1mo", "1mo"),
        (None, None),
    ],
)
async def test_budget_duration(
    client: LiteLlmClient, duration: str | None, shown: str | None
) -> None:
    """A budget lasts for a calendar window, or is never renewed."""
    key = await client.generate(max_budget=1, budget_duration=duration)
    assert (key["max_budget"], key["budget_duration"]) == (1.0, shown)


async def test_small_budget(client: LiteLlmClient) -> None:
    """A budget below the smallest amount is that amount; only 0 refuses everything."""
    key = await client.generate(max_budget=1e-9, soft_budget=0)
    assert (key["max_budget"], key["soft_budget"]) == (1e-6, 0.0)


async def test_other_duration(client: LiteLlmClient) -> None:
    """A duration that is not a calendar window is refused with those that are."""
    response = await client.post("generate", max_budget=1, budget_duration="45d")
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "budget_duration")
    assert error["message"] == (
        "'budget_duration' '45d' is not a calendar window. Send 1h, 1d (or 24h), 7d (or 1w, from "
        "Monday), 1mo (or 30d, from the first of the month), or leave it out for a budget that is "
        "never renewed."
    )


async def test_update(client: LiteLlmClient) -> None:
    """An update changes the limits that it has, and null removes one."""
    key = await client.generate(**LIMITS)
    changes: list[dict[str, Any]] = [
        {"budget_duration": "1d"},
        {"max_budget": None, "tpm_limit": 7, "model_rpm_limit": {"qwen": 9}},
        {"model_tpm_limit": None, "rpm_limit": None, "soft_budget": None},
        {"max_budget": 0.000001, "budget_duration": None},
        {},
    ]
    expected = LIMITS
    for change in changes:
        response = await client.post("update", key=key["token"], **change)
        assert response.status_code == 200, response.text
        expected = expected | change
        if expected["max_budget"] is None and expected["soft_budget"] is None:
            expected = expected | {"budget_duration": None}
        assert {name: response.json()[name] for name in LIMITS} == expected
        info = (await client.info(key["key"])).json()["info"]
        assert {name: info[name] for name in LIMITS} == expected
    for body in ({"models": [MODEL]}, {"duration": "1d"}, {"max_budget": -1}):
        assert (await client.post("update", key=key["token"], **body)).status_code == 400
    assert (await client.post("update", key="key_nix", tpm_limit=1)).status_code == 404


async def test_block(client: LiteLlmClient) -> None:
    """A blocked key is refused until it is unblocked."""
    key = (await client.generate())["key"]
    statuses = []
    for path in ("block", "unblock"):
        response = await client.post(path, key=key)
        statuses.append((response.status_code, response.json()["blocked"], await client.chat(key)))
    assert statuses == [(200, True, 401), (200, False, 200)]
    assert (await client.generate(blocked=True))["blocked"] is True


async def test_regenerate_without_body(client: LiteLlmClient) -> None:
    """A regeneration needs no body if the key is in the path."""
    old = await client.generate()
    response = await client.gateway.client.post(
        f"/key/{old['token']}/regenerate", headers=bearer(client.key)
    )
    assert [await client.chat(key) for key in (response.json()["key"], old["key"])] == [200, 401]
    refused = await client.gateway.client.post("/key/regenerate", headers=bearer(client.key))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "key")


@pytest.mark.parametrize("in_path", [False, True])
async def test_regenerate(client: LiteLlmClient, in_path: bool) -> None:
    """A key gets a new text; with a grace period, the old one is accepted, too."""
    old = await client.generate()

    async def regenerate(key: str, **body: Any) -> dict[str, Any]:
        path, body = (
            (f"{key}/regenerate", body) if in_path else ("regenerate", {"key": key, **body})
        )
        response = await client.post(path, **body)
        assert response.status_code == 200, response.text
        generated: dict[str, Any] = response.json()
        return generated

    new = await regenerate(old["key"], grace_period="1h", duration="1w")
    assert (new["token"], new["user_id"]) == (old["token"], old["user_id"])
    assert (old["expires"], new["expires"] is None) == (None, False)
    assert [await client.chat(key["key"]) for key in (old, new)] == [200, 200]
    newest = await regenerate(new["token"])
    assert [await client.chat(key["key"]) for key in (old, new, newest)] == [401, 401, 200]


async def test_delete(client: LiteLlmClient) -> None:
    """Keys are deleted by text, id and alias; one that does not exist keeps all of them."""
    first, second, third = [await client.generate(key_alias=name) for name in ("a", "b", "c")]
    response = await client.post("delete", keys=[first["key"], "key_nix"], key_aliases=None)
    assert (response.status_code, await client.chat(first["key"])) == (404, 200)
    response = await client.post("delete", keys=[first["key"], second["token"]], key_aliases=None)
    assert response.json() == {"deleted_keys": [first["key"], second["token"]]}
    response = await client.post("delete", keys=None, key_aliases=["c"])
    assert response.json() == {"deleted_keys": ["c"]}
    assert [await client.chat(key["key"]) for key in (first, second, third)] == [401] * 3
    assert (await client.post("delete", keys=None, key_aliases=None)).status_code == 400
    response = await client.post("delete", keys=None, key_aliases=["c"])
    assert (response.status_code, "name 'c'" in response.text) == (404, True)


async def test_delete_twice(client: LiteLlmClient) -> None:
    """A key that is named several times is deleted once."""
    key = await client.generate(key_alias="a")
    response = await client.post("delete", keys=[key["key"], key["token"]], key_aliases=["a"])
    assert response.json() == {"deleted_keys": [key["key"], key["token"], "a"]}
    assert await client.chat(key["key"]) == 401


@pytest.mark.parametrize("models", [[], ["all-team-models"], ["all-proxy-models"]])
async def test_all_models(client: LiteLlmClient, models: list[str]) -> None:
    """LiteLLM's names for all models are no names of models."""
    key = await client.generate(models=models)
    assert (key["models"], await client.chat(key["key"])) == ([], 200)


async def test_ambiguous_alias(client: LiteLlmClient) -> None:
    """An alias of several keys deletes none."""
    keys = [await client.generate(key_alias="a") for _ in range(2)]
    response = await client.post("delete", keys=None, key_aliases=["a"])
    assert (response.status_code, response.json()["error"]["code"]) == (409, "ambiguous_name")
    assert [await client.chat(key["key"]) for key in keys] == [200, 200]


async def test_team_and_user(client: LiteLlmClient) -> None:
    """`team_id` is a project, and `user_id` one of its members, by id or e-mail address."""
    project = (await client.organization("POST", "/projects", name="Research"))["id"]
    users = f"/projects/{project}/users"
    user = await client.organization("POST", users, role="member", email="ann@example.org")
    for name in (user["id"], "Ann@example.org"):
        key = await client.generate(team_id=project, user_id=name)
        assert (key["team_id"], key["user_id"]) == (project, user["id"])
        assert await client.chat(key["key"]) == 200
    bot = await client.generate(team_id=project)
    again = await client.generate(team_id=project, user_id=bot["user_id"])
    assert again["user_id"] == bot["user_id"]
    response = await client.post("generate", user_id=user["id"])
    assert (response.status_code, response.json()["error"]["param"]) == (400, "user_id")
    assert (await client.post("generate", team_id="proj_nix")).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"max_budget": -1},
        {"max_budget": "a"},
        {"max_budget": 1e12},
        {"soft_budget": -0.1},
        {"tpm_limit": -1},
        {"rpm_limit": 1.5},
        {"max_parallel_requests": 2**60},
        {"budget_duration": "30d"},
        {"budget_duration": "5d"},
        {"model_tpm_limit": {MODEL: -1}},
        {"model_rpm_limit": {"a\nb": 1}},
        {"model_max_budget": {MODEL: 1}},
        {"aliases": {"a": "b"}},
        {"guardrails": []},
        {"key": "sk-mine"},
        {"duration": "soon"},
        {"duration": "1h\n"},
        {"duration": "11000d"},
        {"models": [""]},
        {"models": ["a\nb"]},
        {"metadata": {"a": [1] * 2000}},
        {"metadata": {"a": "sk-mg-x"}},
        {"key_alias": "sk-mg-x"},
        {"is_admin": True},
    ],
    ids=lambda body: str(body)[:40],
)
async def test_refused_fields(client: LiteLlmClient, body: dict[str, Any]) -> None:
    """Unsupported fields and invalid values are refused by name, and nothing is created."""
    response = await client.post("generate", **body)
    error = response.json()["error"]
    [name] = body
    assert (response.status_code, error["param"].startswith(name)) == (400, True), error
    listed = await client.organization("GET", "/projects")
    assert listed["data"] == []


async def test_repetition(client: LiteLlmClient) -> None:
    """A repetition with the same Idempotency-Key gets the same key."""
    headers = {**bearer(client.key), "idempotency-key": "6f1c"}
    first, second = [
        (await client.gateway.client.post("/key/generate", headers=headers, json={})).json()
        for _ in range(2)
    ]
    assert first == second
    assert await client.chat(first["key"]) == 200


async def test_refused_keys(client: LiteLlmClient) -> None:
    """The routes are closed to keys of projects and without a key; unknown keys are not echoed."""
    key, unknown = (await client.generate())["key"], generate_key()
    paths = (
        "generate",
        "update",
        "delete",
        "block",
        "unblock",
        "regenerate",
        f"{key}/regenerate",
        "list",
    )
    for path in paths:
        statuses = [
            (await client.gateway.client.post(f"/key/{path}", headers=headers, json={})).status_code
            for headers in (bearer(key), {})
        ]
        assert statuses == [403, 401], path
    info = [
        (await client.gateway.client.get(f"/key/info?key={key}", headers=headers)).status_code
        for headers in (bearer(key), {})
    ]
    assert info == [403, 401]
    response = await client.info(unknown)
    assert (response.status_code, unknown in response.text) == (404, False)


async def test_logs(client: LiteLlmClient) -> None:
    """Keys in paths and queries are not logged."""
    with capture_logs() as lines:
        old = await client.generate()
        await client.info(old["key"])
        new = (await client.post(f"{old['key']}/regenerate")).json()
    routes = [line["route"] for line in lines if "route" in line]
    assert routes == ["/key/generate", "/key/info", "/key/{key}/regenerate"]
    assert not any(key["key"] in repr(lines) for key in (old, new))
