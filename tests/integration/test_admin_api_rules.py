"""Rules of all routes of the admin API: who may use them, tenants, repetitions and refusals."""

import asyncio
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from maxgate.auth.api_key import is_well_formed
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.admin_gateway import AdminGateway, fill, start_admin_gateway
from tests.fakes.api_keys import PEPPER, KeyFolder, bearer
from tests.fakes.attacks import load_routes
from tests.fakes.gateway import start
from tests.fakes.postgres_server import PostgresServer
from tests.fakes.waiting import until


async def test_refused_keys(admin_gateway: AdminGateway) -> None:
    """Every route, unknown ones included, is closed to keys of projects and without a key."""
    client, admin = admin_gateway.gateway.client, admin_gateway.admin
    project = await admin.projects.create(name="Research")
    key = (await admin.projects.service_accounts.create(project.id, name="bot")).api_key.value
    before = (await admin_gateway.send("GET", "/audit_logs?limit=100")).json()
    routes = await admin_gateway.list_routes()
    assert len(routes) >= 53
    unknown = ["/v1/organization", "/v1/organization/", "/v1/organization/images"]
    for method, path in [*routes, *(("GET", path) for path in unknown)]:
        filled = re.sub("{[^}]*}", project.id, path)
        responses = [
            await client.request(method, filled, json={"name": "a"}, headers=headers)
            for headers in (bearer(key), {})
        ]
        found = [(r.status_code, r.json()["error"]["code"]) for r in responses]
        assert found == [(403, "insufficient_permissions"), (401, "invalid_api_key")], filled
    assert (await admin_gateway.send("GET", "/audit_logs?limit=100")).json() == before


def find_body(method: str, path: str) -> dict[str, Any] | None:
    """Return the body of a route that tests/data/attacks.yaml has."""
    for route in load_routes().values():
        if (route.get("method", "POST"), re.sub("%([a-z_]+)%", r"{\1}", route["path"])) == (
            method,
            path,
        ):
            return dict(route["body"])
    return None


async def test_two_tenants(admin_gateway: AdminGateway) -> None:
    """Nothing of a project is found, shown or changed by any route of another project."""
    ours, theirs = await fill(admin_gateway, "ours"), await fill(admin_gateway, "theirs")
    routes = [route for route in await admin_gateway.list_routes() if "{project_id}" in route[1]]
    reads = [path for method, path in routes if method == "GET"]

    async def read_theirs() -> list[Any]:
        return [(await admin_gateway.send("GET", path.format(**theirs))).json() for path in reads]

    before = await read_theirs()
    assert all("error" not in found for found in before)
    for method, path in sorted(routes, key=lambda route: (route[1].endswith("/archive"), route)):
        names = re.findall("{([a-z_]+)}", path)
        ids = {name: ours[name] if name == "project_id" else theirs[name] for name in names}
        body = find_body(method, path)
        options = {} if body is None else {"json": body}
        response = await admin_gateway.send(method, path.format(**ids), **options)
        if len(names) > 1 and "rate_limit_id" not in names:  # the same for all projects
            assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
        others = theirs.keys() - ids.keys() - {"rate_limit_id"}
        assert not [theirs[n] for n in others if theirs[n] in response.text]
        assert "theirs" not in response.text, (method, path)
    assert await read_theirs() == before
    assert await admin_gateway.chat(theirs["key"]) == (200, None)


async def test_no_secrets(admin_gateway: AdminGateway) -> None:
    """Only responses to creation and rotation have a key; none has a digest."""
    ids, digest = await fill(admin_gateway, "ours"), re.compile("[0-9a-f]{64}")
    keys = [admin_gateway.key, ids["key"]]
    ids["key_id"] = (
        await admin_gateway.send("POST", "/admin_api_keys", json={"name": "b"})
    ).json()["id"]
    with_key = set()
    routes = await admin_gateway.list_routes()
    for method, path in sorted(routes, key=lambda route: (route[0] == "DELETE", route)):
        body = find_body(method, path)
        if path.endswith("/archive"):  # nothing could be changed any more
            continue
        options = {} if body is None else {"json": body}
        response = await admin_gateway.send(method, path.format(**ids), **options)
        found = re.findall("sk-mg-[0-9A-Za-z]{20,}", response.text)
        assert not digest.search(response.text), path
        assert not [key for key in keys if key in response.text]
        assert [key for key in found if not is_well_formed(key)] == []
        if found:
            with_key.add((method, path.removeprefix("/v1/organization")))
    project = "/projects/{project_id}"
    assert with_key == {
        ("POST", "/admin_api_keys"),
        ("POST", f"{project}/service_accounts"),
        ("POST", f"{project}/service_accounts/{{service_account_id}}/api_keys"),
        ("POST", f"{project}/api_keys/{{api_key_id}}/rotate"),
    }


MONTH: Any = {"currency": "USD", "interval": "month"}
NEW_LIMIT = {**MONTH, "threshold_amount": 700}
NEW_ALERT = {**NEW_LIMIT, "notification_channel": {"type": "email", "recipients": []}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/projects", {"name": "new"}),
        ("/projects/{project_id}/users", {"role": "member", "email": "new@example.com"}),
        ("/projects/{project_id}/service_accounts", {"name": "new"}),
        ("/projects/{project_id}/service_accounts/{service_account_id}/api_keys", {"name": "new"}),
        ("/projects/{project_id}/api_keys/{api_key_id}/rotate", {"grace_seconds": 60}),
        ("/admin_api_keys", {"name": "new"}),
        ("/spend_alerts", NEW_ALERT),
        ("/projects/{project_id}/spend_alerts", NEW_ALERT),
    ],
)
async def test_repeated_creation(
    admin_gateway: AdminGateway, path: str, body: dict[str, Any]
) -> None:
    """A repetition gets the same response, keys included, and creates nothing."""
    filled, header = (
        path.format(**await fill(admin_gateway, "ours")),
        {"idempotency-key": uuid4().hex},
    )
    first = await admin_gateway.send("POST", filled, json=body, headers=header)
    events = (await admin_gateway.send("GET", "/audit_logs?limit=100")).json()
    second = await admin_gateway.send("POST", filled, json=body, headers=header)
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.json() == first.json()
    assert (await admin_gateway.send("GET", "/audit_logs?limit=100")).json() == events

    other = await admin_gateway.send("POST", "/projects", json={"name": "other"}, headers=header)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")


async def test_concurrent_repetitions(admin_gateway: AdminGateway) -> None:
    """Of concurrent repetitions one creates the key, and the others get it or a conflict."""
    path = "/projects/{project_id}/service_accounts".format(**await fill(admin_gateway, "ours"))
    header = {"idempotency-key": uuid4().hex}
    responses = await asyncio.gather(
        *(admin_gateway.send("POST", path, json={"name": "new"}, headers=header) for _ in range(5))
    )
    assert {response.status_code for response in responses} <= {200, 409}
    created = [response.json() for response in responses if response.status_code == 200]
    assert created.count(created[0]) == len(created)
    listed = (await admin_gateway.send("GET", path)).json()["data"]
    assert [account["name"] for account in listed] == ["ours-bot", "new"]


PROJECT = "/projects/{project_id}"
KEY = PROJECT + "/api_keys/{api_key_id}"
ACCOUNT = PROJECT + "/service_accounts/{service_account_id}"
LIMIT = PROJECT + "/rate_limits/{rate_limit_id}"


CHANGES: Any = [
    (PROJECT, "POST", "", {"name": "new"}),
    (PROJECT, "POST", "", {}),
    (PROJECT, "POST", "/archive", None),
    (f"{PROJECT}/model_permissions", "POST", "", {"mode": "deny_list", "model_ids": []}),
    (f"{PROJECT}/model_permissions", "DELETE", "", None),
    (PROJECT + "/users/{user_id}", "POST", "", {"role": "owner"}),
    (PROJECT + "/users/{user_id}", "POST", "", {}),
    (PROJECT + "/users/{user_id}", "DELETE", "", None),
    ("/users/{user_id}", "POST", "", {"role": "owner"}),
    ("/users/{user_id}", "POST", "", {}),
    ("/users/{user_id}", "DELETE", "", None),
    (ACCOUNT, "POST", "", {"name": "new"}),
    (ACCOUNT, "POST", "", {}),
    (ACCOUNT, "DELETE", "", None),
    (KEY, "POST", "", {"expires_in_seconds": 60, "blocked": True}),
    (KEY, "POST", "", {}),
    (KEY, "POST", "/rotate", {}),
    (KEY, "DELETE", "", None),
    ("/admin_api_keys/{key_id}", "DELETE", "", None),
    (LIMIT, "POST", "", {"max_requests_per_1_minute": 2_000_000}),
    (LIMIT, "POST", "", {}),
    (LIMIT, "DELETE", "", None),
    (f"{PROJECT}/spend_limit", "POST", "", NEW_LIMIT),
    (f"{PROJECT}/spend_limit", "DELETE", "", None),
    (f"{PROJECT}/spend_alerts/{{alert_id}}", "POST", "", NEW_ALERT),
    (f"{PROJECT}/spend_alerts/{{alert_id}}", "DELETE", "", None),
]


async def test_etags(admin_gateway: AdminGateway) -> None:
    """A change with the ETag of an older state is refused, and one with the present ETag is not."""
    for number, (path, method, action, body) in enumerate(CHANGES):
        ids = await fill(admin_gateway, f"name-{number}")
        ids["key_id"] = (await admin_gateway.admin.admin_api_keys.create(name="b")).id
        filled = path.format(**ids)
        read = await admin_gateway.send("GET", filled)
        found = []
        for tag in ('"99"', '"a"', f"W/{read.headers['etag']}", "99", read.headers["etag"]):
            headers = {"if-match": tag}
            options = {} if body is None else {"json": body}
            sent = await admin_gateway.send(method, filled + action, headers=headers, **options)
            found.append((sent.status_code, sent.json().get("error", {}).get("code")))
        refused = (412, "precondition_failed")
        assert found == [refused] * 3 + [(400, None), (200, None)], (method, path)


REFUSALS: Any = [
    ("POST", "/projects", {}, 400, "missing_required_parameter", "name"),
    ("POST", "/projects", {"name": ""}, 400, None, "name"),
    ("POST", "/projects", {"name": "a\nb"}, 400, None, "name"),
    ("POST", "/projects", {"name": 1}, 400, "invalid_type", "name"),
    ("POST", "/projects", {"name": "a", "b": 1}, 400, "unknown_parameter", "b"),
    *(
        ("POST", path, {**body, field: "a"}, 400, "unsupported_parameter", field)
        for path, body, fields in (
            ("/projects", {"name": "a"}, ["external_key_id", "geography", "residency"]),
            (PROJECT, {}, ["external_key_id", "geography"]),
            ("/users/{user_id}", {}, ["role_id", "developer_persona", "technical_level"]),
            (KEY, {}, ["scopes"]),
            (f"{ACCOUNT}/api_keys", {}, ["scopes"]),
        )
        for field in fields
    ),
    ("POST", "/admin_api_keys", {"name": "a", "expires_in_seconds": 0}, 400,
     "integer_below_min_value", "expires_in_seconds"),
    ("POST", "/admin_api_keys", {"name": "a", "expires_in_seconds": 10**9}, 400, None,
     "expires_in_seconds"),
    ("POST", f"{PROJECT}/service_accounts",
     {"name": "a", "create_service_account_only": True, "expires_in_seconds": 60}, 400, None,
     "expires_in_seconds"),
    ("POST", f"{PROJECT}/users", {"role": "none", "email": "a@b.c"}, 400, "invalid_value",
     "role"),
    ("POST", f"{PROJECT}/users", {"role": "member"}, 400, None, "user_id"),
    ("POST", f"{PROJECT}/users", {"role": "member", "email": "a"}, 400, None, "email"),
    ("POST", f"{PROJECT}/users", {"role": "member", "email": "ours@example.com"}, 409,
     "conflict", None),
    ("POST", f"{PROJECT}/users", {"role": "member", "user_id": "user-x"}, 404, "not_found",
     None),
    ("POST", f"{PROJECT}/model_permissions", {"mode": "deny_list", "model_ids": ["a"] * 1001},
     400, "array_above_max_length", "model_ids"),
    ("POST", f"{KEY}/rotate", {"grace_seconds": -1}, 400, "integer_below_min_value",
     "grace_seconds"),
    ("POST", f"{KEY}/rotate", {"grace_seconds": 10**8}, 400, None, "grace_seconds"),
    ("GET", "/projects?limit=0", None, 400, "integer_below_min_value", "limit"),
    ("GET", "/projects?limit=101", None, 400, "integer_above_max_value", "limit"),
    ("GET", "/projects?limit=a", None, 400, "invalid_value", "limit"),
    ("GET", "/projects?limit=99999999999999999999", None, 400, "integer_above_max_value", "limit"),
    ("GET", "/projects?include_archived=maybe", None, 400, "invalid_value", "include_archived"),
    ("GET", "/projects?limit=1&limit=1", None, 400, "duplicate_parameter", "limit"),
    ("GET", "/audit_logs?effective_at[gt]=1&effective_at[gt]=2", None, 400, "duplicate_parameter",
     "effective_at[gt]"),
    ("GET", "/projects?after=proj_x", None, 400, None, "after"),
    ("GET", "/projects?after=%00", None, 400, None, "after"),
    ("GET", "/projects?before=a", None, 400, "unknown_parameter", "before"),
    ("GET", "/audit_logs?before=a", None, 400, None, "after"),
    ("GET", "/audit_logs?tenant_only=true", None, 400, "unsupported_parameter", "tenant_only"),
    ("GET", "/audit_logs?actor_emails[]=a", None, 400, "unsupported_parameter", "actor_emails[]"),
    *(
        ("POST", f"{PROJECT}/service_accounts",
         {"name": "a", "create_service_account_only": True, field: value}, 400, None, field)
        for field, value in (("models", ["a"]), ("networks", ["::1"]), ("service_class", "flex"))
    ),
    *(
        ("POST", f"{ACCOUNT}/api_keys", {field: value}, 400, code, param)
        for field, value, code, param in (
            ("models", [], "empty_array", "models"),
            ("models", "a", "invalid_type", "models"),
            ("models", ["a" * 201], "string_above_max_length", "models[0]"),
            ("models", ["a\0"], None, "models[0]"),
            ("models", ["a"] * 1001, "array_above_max_length", "models"),
            ("networks", [], "empty_array", "networks"),
            ("networks", ["10.0.0.0/8", "10.0.0.1/8"], None, "networks[1]"),
            ("networks", ["localhost"], None, "networks[0]"),
            ("service_class", "fast", "invalid_value", "service_class"),
        )
    ),
    ("GET", "/audit_logs?effective_at[gt]=-1", None, 400, "integer_below_min_value",
     "effective_at[gt]"),
    ("GET", f"{PROJECT}/api_keys?owner_project_access=some", None, 400, "invalid_value",
     "owner_project_access"),
    ("GET", "/admin_api_keys?order=up", None, 400, "invalid_value", "order"),
    ("GET", "/projects/proj_x", None, 404, "not_found", None),
    ("GET", "/projects/a%27%20OR%201=1", None, 404, "not_found", None),
    ("GET", "/projects/%00", None, 404, "not_found", None),
    ("GET", f"/projects/{'a' * 101}", None, 404, "not_found", None),
    *(
        ("POST", LIMIT, {field: 1}, 400, "unsupported_parameter", field)
        for field in ("batch_1_day_max_input_tokens", "max_images_per_1_minute",
                      "max_audio_megabytes_per_1_minute")
    ),
    ("POST", LIMIT, {"max_tokens_per_1_minute": -1}, 400, "integer_below_min_value",
     "max_tokens_per_1_minute"),
    ("POST", f"{PROJECT}/rate_limits/rl-x", {"max_tokens_per_1_minute": 1}, 404, "not_found",
     None),
    ("GET", f"{PROJECT}/rate_limits?after=rl-x", None, 400, None, "after"),
    ("GET", "/projects/proj_x/rate_limits", None, 404, "not_found", None),
    ("GET", "/spend_limit", None, 404, "not_found", None),
    ("DELETE", "/spend_limit", None, 404, "not_found", None),
    ("POST", "/spend_limit", {**NEW_LIMIT, "currency": "EUR"}, 400, "invalid_value", "currency"),
    ("POST", "/spend_limit", {**NEW_LIMIT, "interval": "day"}, 400, "invalid_value", "interval"),
    ("POST", "/spend_limit", {**NEW_LIMIT, "threshold_amount": -1}, 400,
     "integer_below_min_value", "threshold_amount"),
    ("POST", "/spend_alerts", {**NEW_ALERT, "notification_channel":
     {"type": "email", "recipients": ["a"]}}, 400, None, "notification_channel.recipients[0]"),
    ("POST", "/spend_alerts", {**NEW_ALERT, "notification_channel":
     {"type": "webhook", "recipients": []}}, 400, "invalid_value", "notification_channel.type"),
    ("POST", "/spend_alerts/alert_x", NEW_ALERT, 404, "not_found", None),
    ("GET", "/costs?start_time=0", None, 501, "not_supported", None),  # no ledger
    ("GET", "/usage/images?start_time=0", None, 404, "not_found", None),
    ("GET", "/invites", None, 404, "not_found", None),
    ("PUT", "/projects", {"name": "a"}, 405, "method_not_supported", None),
]  # fmt: skip


async def test_refusals(admin_gateway: AdminGateway) -> None:
    """Invalid requests, and parts of OpenAI's API that do not exist, are refused by name."""
    ids = await fill(admin_gateway, "ours")
    events = (await admin_gateway.send("GET", "/audit_logs?limit=100")).json()
    for method, path, body, status, code, param in REFUSALS:
        options = {} if body is None else {"json": body}
        response = await admin_gateway.send(method, path.format(**ids), **options)
        error = response.json()["error"]
        found = (response.status_code, error["code"], error["param"])
        assert found == (status, code, param), (method, path)
    assert (await admin_gateway.send("GET", "/audit_logs?limit=100")).json() == events


@pytest.mark.parametrize(
    ("method", "path", "content", "param", "message"),
    [
        ("GET", "/projects?limit=a", None, "limit",
         "Invalid value for 'limit': expected an integer."),
        ("GET", "/projects?limit=1.5", None, "limit",
         "Invalid value for 'limit': expected an integer."),
        ("GET", "/projects?include_archived=x", None, "include_archived",
         "Invalid value for 'include_archived': expected a boolean."),
        ("GET", "/users?limit=1&limit=2", None, "limit",
         "Duplicate parameter: 'limit' is sent more than once."),
        ("POST", "/projects", '{"name": "a", "name": "b"}', "name",
         "Duplicate parameter: 'name' is sent more than once."),
        ("POST", f"{KEY}/rotate", '{"grace_seconds": 0, "grace_seconds": 0}', "grace_seconds",
         "Duplicate parameter: 'grace_seconds' is sent more than once."),
        ("POST", "/key/generate", '{"metadata": {"a": {"b": 1, "b": 2}}}', "b",
         "Duplicate parameter: 'b' is sent more than once."),
    ],
)  # fmt: skip
async def test_ambiguous_requests(
    admin_gateway: AdminGateway,
    method: str,
    path: str,
    content: str | None,
    param: str,
    message: str,
) -> None:
    """A field that is there twice, or no number, is refused by name, and nothing is changed."""
    full = path.format(**await fill(admin_gateway, "ours"))
    events = (await admin_gateway.send("GET", "/audit_logs?limit=100")).json()
    response = await admin_gateway.send(method, full, content=content)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["message"]) == (400, param, message)
    assert (await admin_gateway.send("GET", "/audit_logs?limit=100")).json() == events


async def test_lists_in_query(admin_gateway: AdminGateway) -> None:
    """Fields that are lists may be there several times."""
    await fill(admin_gateway, "ours")
    types = "event_types[]=project.created&event_types[]=user.added"
    response = await admin_gateway.send("GET", f"/audit_logs?{types}")
    assert {event["type"] for event in response.json()["data"]} == {"project.created", "user.added"}


async def test_expiry_of_keys(admin_gateway: AdminGateway) -> None:
    """Null means never, for new keys and for those that had an expiry."""
    ids = await fill(admin_gateway, "ours")
    path = KEY.format(**ids)
    for body in ({"expires_in_seconds": 60}, {"expires_in_seconds": None}, {}):
        changed = (await admin_gateway.send("POST", path, json=body)).json()
        assert (changed["expires_at"] is None) == (body.get("expires_in_seconds") is None)
    never = {"name": "new", "expires_in_seconds": None}
    created = [
        (await admin_gateway.send("POST", to.format(**ids), json=never)).json()
        for to in ("/admin_api_keys", f"{ACCOUNT}/api_keys")
    ]
    assert [key["expires_at"] for key in created] == [None, None]
    assert await admin_gateway.chat(ids["key"]) == (200, None)


async def test_rotation_without_body(admin_gateway: AdminGateway) -> None:
    """A rotation without a body has no grace period."""
    ids = await fill(admin_gateway, "ours")
    rotated = await admin_gateway.send("POST", f"{KEY}/rotate".format(**ids))
    assert await admin_gateway.chat(rotated.json()["value"]) == (200, None)
    assert await admin_gateway.chat(ids["key"]) == (401, "invalid_api_key")
    refused = await admin_gateway.send("POST", KEY.format(**ids))
    assert (refused.status_code, refused.json()["error"]["message"]) == (
        400,
        "The request has no body. Send a JSON object.",
    )


@pytest.mark.parametrize("key", ["", "a" * 256, "a\tb", "ä".encode()])
async def test_invalid_idempotency_key(sqlite_admin_gateway: AdminGateway, key: Any) -> None:
    """An Idempotency-Key has 1 to 255 printable ASCII characters."""
    header = {"idempotency-key": key}
    response = await sqlite_admin_gateway.send(
        "POST", "/projects", json={"name": "a"}, headers=header
    )
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "Idempotency-Key")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "auth.mode"),
        ({"auth": {"mode": "none"}}, "auth.mode"),
        ({"auth": {"mode": "keys", "pepper": [PEPPER]}, "database": {"url": "none"}},
         "database.url"),
    ],
)  # fmt: skip
async def test_without_database(tmp_path: Path, settings: dict[str, Any], named: str) -> None:
    """Without keys or a database, every route names the setting that it needs."""
    folder = KeyFolder(tmp_path)
    folder.file.touch()
    key = folder.add(admin=True)
    async with start(**settings, state_dir=tmp_path) as gateway:
        client = gateway.client
        for path in ("/projects", "/admin_api_keys", "/audit_logs", "/projects/proj_a/users"):
            response = await client.get(f"/v1/organization{path}", headers=bearer(key))
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (501, "not_supported")
            assert named in error["message"]
        created = await client.post(
            "/v1/organization/projects", json={"name": "a"}, headers=bearer(key)
        )
        assert created.status_code == 501


async def test_admin_of_the_file(tmp_path: Path) -> None:
    """An admin of keys.yaml creates keys, also from afar, with a pepper that was generated."""
    settings: dict[str, Any] = {"auth": {"mode": "keys"}, "state_dir": tmp_path}
    async with start(**settings):  # generates the pepper
        pepper = (tmp_path / "pepper").read_text().strip()
    folder = KeyFolder(tmp_path)
    folder.file.touch()
    key = folder.add("root", pepper=pepper, admin=True)
    async with start(**settings) as gateway:
        paths, client = "/v1/organization/projects", gateway.client
        client.headers.update({**bearer(key), "x-forwarded-for": "10.0.0.7"})
        project = (await client.post(paths, json={"name": "a"})).json()
        account = await client.post(f"{paths}/{project['id']}/service_accounts", json={"name": "b"})
        events = (await client.get("/v1/organization/audit_logs")).json()["data"]
        client.headers.update(bearer(account.json()["api_key"]["value"]))
        assert (await gateway.chat()).status_code == 200
    assert {event["actor"]["api_key"]["id"] for event in events} == {"root"}


async def test_database_outage(postgres: PostgresServer, tmp_path: Path, capfd) -> None:
    """While the database is away, changes and reads get 503, and work again afterwards.

    The log has the reason, which clients are not told.
    """
    database = DatabaseSettings(url=postgres.url, schema_name=f"test_{uuid4().hex}", timeout=2)
    async with start_admin_gateway(database, tmp_path) as gateway:
        requests: Any = [("GET", "/projects", {}), ("POST", "/projects", {"json": {"name": "a"}})]
        await gateway.send("GET", "/projects")  # the admin's key is in memory from now on
        postgres.stop()
        try:
            for method, path, options in requests:
                response = await gateway.send(method, path, **options)
                error = response.json()["error"]
                assert (response.status_code, error["code"]) == (503, "database_unavailable")
                assert response.headers["x-should-retry"] == "true"
        finally:
            postgres.start()

        async def works() -> bool:  # the store tries again after a while
            return (await gateway.send("GET", "/projects")).status_code == 200

        await until(works)
        for method, path, options in requests:
            assert (await gateway.send(method, path, **options)).status_code == 200
    assert "a request needs the database" in capfd.readouterr().out
