"""Prices of requests through the whole gateway, and LiteLLM's spend logs."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.api_keys import PEPPER, bearer
from tests.fakes.gateway import EMBEDDING_MODEL, SMALL_CARD, Gateway, start, start_with_embeddings
from tests.fakes.max_server import FakeMax
from tests.fakes.rate_cards import DAY
from tests.fakes.stored_keys import StoredKeys
from tests.fakes.usage_store import FakeUsageStore

MODEL = "smollm2-135m-instruct"
PRICING = {
    "rate_cards": [
        {"model": MODEL, "price": {"input": 1, "output": 1000}, "cost": {"input": 7}},
        {"model": EMBEDDING_MODEL, "price": {"input": 3}},
    ]
}
START = 20_000 * DAY
DAY_NAMES = ("2024-10-04", "2024-10-05")


async def test_cost_header() -> None:
    """The price of a response is that of its tokens; streams and gateways without prices have none.

    It is counted by project and model, as all others are.
    """
    async with start(pricing=PRICING) as gateway:
        responses = [await gateway.chat(n=2), await gateway.chat(stream=True)]
        metrics = await gateway.client.get("/metrics", headers={"accept": "text/plain"})
    usage = responses[0].json()["usage"]
    micros = usage["prompt_tokens"] + 1000 * usage["completion_tokens"]
    assert [r.headers.get("x-maxgate-cost") for r in responses] == [f"{micros / 1e6:.6f}", None]
    labels = f'{{model="{MODEL}",project="anonymous"}}'
    assert f"maxgate_billed_requests_total{labels} 2.0" in metrics.text
    async with start() as gateway:
        response = await gateway.chat()
        metrics = await gateway.client.get("/metrics", headers={"accept": "text/plain"})
    assert "x-maxgate-cost" not in response.headers
    assert "maxgate_billed_requests_total{" not in metrics.text


async def test_embeddings_cost() -> None:
    """Embeddings have their price, and requests that reach no model have none."""
    async with start_with_embeddings(pricing=PRICING) as gateway:
        embedded, refused = await gateway.embed("Hello"), await gateway.embed(5.5)
    tokens = embedded.json()["usage"]["prompt_tokens"]
    assert embedded.headers["x-maxgate-cost"] == f"{3 * tokens / 1e6:.6f}"
    assert "x-maxgate-cost" not in refused.headers


@pytest.fixture
async def spend(tmp_path: Path) -> AsyncIterator[tuple[Gateway, FakeUsageStore, str]]:
    """A gateway with keys, usage in memory, and an admin's key."""
    identities = open_identity_store(DatabaseSettings(), tmp_path)
    key = await StoredKeys(identities).add_admin()
    await identities.aclose()
    settings: dict[str, Any] = {
        "auth": {"mode": "keys", "pepper": [PEPPER]},
        "state_dir": tmp_path,
        "cards": [SMALL_CARD],
        "pricing": {"rate_cards": [{"model": "small", "price": {"input": 1000}}]},
    }
    store = FakeUsageStore()
    async with start(FakeMax(), store, **settings) as gateway:
        yield gateway, store, key


async def get(gateway: Gateway, key: str, **query: Any) -> httpx.Response:
    """Send a request for spend logs."""
    return await gateway.client.get("/spend/logs", headers=bearer(key), params=query)


async def test_spend_logs(spend: tuple[Gateway, FakeUsageStore, str]) -> None:
    """Requests are listed with LiteLLM's names, newest first, by user, request or day."""
    gateway, store, key = spend
    store.add(START + 10, input_tokens=5, tags={"team": "a"}, first_token_seconds=0.25)
    store.add(START + DAY, user_id="bob", outcome="timeout", kind="embeddings")
    [log] = (await get(gateway, key, user_id="ann")).json()
    assert log == {
        "request_id": "req_0",
        "call_type": "acompletion",
        "api_key": "key_1",
        "spend": 0.005,
        "total_tokens": 5,
        "prompt_tokens": 5,
        "completion_tokens": 0,
        "startTime": "2024-10-04T00:00:09+00:00",
        "endTime": "2024-10-04T00:00:10+00:00",
        "completionStartTime": "2024-10-04T00:00:09.250000+00:00",
        "model": "small",
        "model_group": "small",
        "api_base": "http://engine",
        "user": "ann",
        "team_id": "red",
        "cache_hit": "False",
        "metadata": {"team": "a"},
        "request_tags": ["team:a"],
        "status": "success",
    }
    dates = {"start_date": DAY_NAMES[0], "end_date": DAY_NAMES[1], "summarize": False}
    for query, ids in (
        ({}, ["req_1", "req_0"]),
        ({"request_id": "req_1"}, ["req_1"]),
        ({"api_key": "key_2"}, []),
        (dates, ["req_1", "req_0"]),
        ({**dates, "end_date": DAY_NAMES[0]}, ["req_0"]),
    ):
        logs = (await get(gateway, key, **query)).json()
        assert [log["request_id"] for log in logs] == ids, query


async def test_spend_by_day(spend: tuple[Gateway, FakeUsageStore, str]) -> None:
    """Between two dates, the spend of each day is summed by user, model and key."""
    gateway, store, key = spend
    headers = {"Content-Type": "application/json", **bearer(key)}
    generated = await gateway.client.post("/key/generate", headers=headers, json={})
    token, text = generated.json()["token"], generated.json()["key"]
    store.add(START, input_tokens=1, api_key_id=token)
    store.add(START + 5, input_tokens=2, api_key_id=token, user_id="bob")
    store.add(START + 6, input_tokens=4)
    query = {"start_date": DAY_NAMES[0], "end_date": DAY_NAMES[1]}
    empty = {"startTime": DAY_NAMES[1], "spend": 0.0, "users": {}, "models": {}}
    assert (await get(gateway, key, **query)).json() == [
        {
            "startTime": DAY_NAMES[0],
            "spend": 0.007,
            "users": {"ann": 0.005, "bob": 0.002},
            "models": {"small": 0.007},
            token: 0.003,
            "key_1": 0.004,
        },
        empty,
    ]
    store.add(time.time(), input_tokens=9, api_key_id=token, project_id="default")
    info = await gateway.client.get(f"/key/info?key={token}", headers=bearer(key))
    assert info.json()["info"]["spend"] == 0.009
    [day, _] = (await get(gateway, key, **query, api_key=text)).json()
    assert (day["spend"], day[token]) == (0.003, 0.003)


async def test_invalid_spend(spend: tuple[Gateway, FakeUsageStore, str]) -> None:
    """Dates must be in order and up to a year apart, and only admins see spend."""
    gateway, _, key = spend
    statuses = [
        (await get(gateway, each, **query)).status_code
        for each, query in (
            (key, {"start_date": DAY_NAMES[1], "end_date": DAY_NAMES[0]}),
            (key, {"start_date": "2020-01-01", "end_date": "2022-01-01"}),
            (key, {"start_date": "yesterday"}),
            (key, {"days": 3}),
            ("sk-mg-none", {}),
        )
    ]
    assert statuses == [400, 400, 400, 400, 401]
