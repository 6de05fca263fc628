"""OpenAI's usage API with its official client, in front of usage in memory."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.fakes.api_keys import KeyFolder, bearer
from tests.fakes.gateway import TLS, Gateway, start
from tests.fakes.rate_cards import DAY, HOUR
from tests.fakes.usage_store import FakeUsageStore

START = 20_000 * DAY
CHANGE = START + 7 * HOUR
PRICING = {
    "currency": "eur",
    "rate_cards": [
        {"model": "small", "price": {"input": 1, "cached_input": 0.5, "output": 2}},
        {
            "model": "small",
            "valid_from": "2024-10-04T07:00:00Z",
            "price": {"input": 10, "output": 20, "gpu_hour": 3.6},
        },
    ],
}


@dataclass
class UsageGateway:
    """A gateway with usage in memory, and the official client with an admin's key."""

    gateway: Gateway
    store: FakeUsageStore
    client: openai.AsyncOpenAI
    keys: dict[str, str]

    @property
    def usage(self) -> Any:
        """The official client of usage."""
        return self.client.admin.organization.usage

    async def get(self, path: str, key: str = "admin", **query: Any) -> httpx.Response:
        """Send a request with one of the keys."""
        url, headers = f"/v1/organization/{path}", bearer(self.keys[key])
        return await self.gateway.client.get(url, headers=headers, params=query)


@pytest.fixture
async def usage_gateway(tmp_path: Path) -> AsyncIterator[UsageGateway]:
    """A gateway with two keys, of an admin and of somebody else, and two rate cards."""
    folder, store = KeyFolder(tmp_path), FakeUsageStore()
    settings = {**folder.settings, "pricing": PRICING}
    keys = {"admin": folder.add("root", admin=True), "other": folder.add()}
    async with (
        start(usage_store=store, **settings) as gateway,
        openai.AsyncOpenAI(
            base_url=f"{gateway.url}/v1",
            api_key="none",
            admin_api_key=keys["admin"],
            max_retries=0,
            http_client=httpx.AsyncClient(verify=TLS),
        ) as client,
    ):
        yield UsageGateway(gateway, store, client, keys)


async def test_completions(usage_gateway: UsageGateway) -> None:
    """The official client gets all buckets, groups and fields of completions."""
    store = usage_gateway.store
    store.add(START, input_tokens=30, cached_tokens=10, output_tokens=5)
    store.add(START + 5, input_tokens=1, project_id="blue")
    store.add(START + 6, kind="embeddings", input_tokens=99)
    page = await usage_gateway.usage.completions(
        start_time=START,
        end_time=START + 2 * DAY,
        group_by=["project_id", "batch"],
        models=["small"],
        batch=False,
    )
    common = {
        "object": "organization.usage.completions.result",
        "num_model_requests": 1,
        "batch": False,
        "input_audio_tokens": 0,
        "output_audio_tokens": 0,
        "user_id": None,
        "api_key_id": None,
        "model": None,
        "service_tier": None,
        "api_source": None,
    }
    blue = {"project_id": "blue", "input_tokens": 1, "input_cached_tokens": 0}
    red = {"project_id": "red", "input_tokens": 30, "input_cached_tokens": 10}
    assert page.model_dump(exclude_unset=True) == {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": START,
                "end_time": START + DAY,
                "results": [
                    {**common, **blue, "input_uncached_tokens": 1, "output_tokens": 0},
                    {**common, **red, "input_uncached_tokens": 20, "output_tokens": 5},
                ],
            },
            {
                "object": "bucket",
                "start_time": START + DAY,
                "end_time": START + 2 * DAY,
                "results": [],
            },
        ],
        "has_more": False,
        "next_page": None,
    }


@pytest.mark.parametrize("kind", ["embeddings", "moderations"])
async def test_other_kinds(usage_gateway: UsageGateway, kind: str) -> None:
    """Embeddings and moderations have their own routes, and filters by user and key."""
    for key in ("key_1", "key_2"):
        usage_gateway.store.add(START, kind=kind, input_tokens=7, api_key_id=key)
    page = await getattr(usage_gateway.usage, kind)(
        start_time=START,
        end_time=START + 60,
        bucket_width="1m",
        user_ids=["ann", "bob"],
        api_key_ids=["key_2"],
        project_ids=["red"],
        group_by=["api_key_id", "model", "user_id"],
    )
    [[result]] = [bucket.results for bucket in page.data]
    assert result.model_dump(exclude_unset=True) == {
        "object": f"organization.usage.{kind}.result",
        "input_tokens": 7,
        "num_model_requests": 1,
        "project_id": None,
        "user_id": "ann",
        "api_key_id": "key_2",
        "model": "small",
    }


async def test_pages(usage_gateway: UsageGateway) -> None:
    """Pages join up to the whole, also if the interval begins within a bucket and ends now."""
    store = usage_gateway.store
    for hour in (0, 3, 4, 50):
        store.add(START + hour * HOUR + 1800, input_tokens=hour)
    query: dict[str, Any] = {"start_time": START + 1000, "bucket_width": "1h"}
    whole = await usage_gateway.usage.completions(
        **query, end_time=START + 51 * HOUR - 5, limit=168
    )
    buckets, page = [], None
    while True:
        found = await usage_gateway.usage.completions(**query, limit=20, page=page or openai.omit)
        buckets += found.data
        page = found.next_page
        if len(buckets) >= 60 or not found.has_more:
            break
        store.add(START + 1, input_tokens=1000)  # before the pages that follow
    assert (whole.data[0].start_time, whole.data[0].end_time) == (START + 960, START + HOUR)
    assert (len(whole.data), whole.has_more, whole.next_page) == (51, False, None)
    assert buckets[:50] == whole.data[:50]
    assert [bucket.end_time for bucket in buckets[:-1]] == [b.start_time for b in buckets[1:]]


async def test_costs(usage_gateway: UsageGateway) -> None:
    """Costs are prices by the day, exact for a rate that changes within a day."""
    store = usage_gateway.store
    for at in (CHANGE - 1, CHANGE):
        store.add(at, input_tokens=1000, cached_tokens=200, output_tokens=100, gpu_seconds=10.0)
    store.add(CHANGE, model="large", input_tokens=5)
    page = await usage_gateway.usage.costs(start_time=START, end_time=START + 2 * DAY)
    assert page.model_dump(exclude_unset=True)["data"] == [
        {
            "object": "bucket",
            "start_time": START,
            "end_time": START + DAY,
            "results": [
                {
                    "object": "organization.costs.result",
                    "amount": {"value": 0.0231, "currency": "eur"},
                    "line_item": None,
                    "quantity": None,
                    "quantity_unit": None,
                    "project_id": None,
                    "user_id": None,
                    "api_key_id": None,
                    "api_source": None,
                }
            ],
        },
        {
            "object": "bucket",
            "start_time": START + DAY,
            "end_time": START + 2 * DAY,
            "results": [],
        },
    ]


async def test_line_items(usage_gateway: UsageGateway) -> None:
    """Each kind of token of each model is a line item; costs can be filtered by them."""
    usage_gateway.store.add(
        CHANGE, input_tokens=1000, cached_tokens=200, output_tokens=100, gpu_seconds=10.0
    )
    usage_gateway.store.add(CHANGE, model="large", input_tokens=5)
    costs = usage_gateway.usage.costs
    page = await costs(start_time=START, limit=1, group_by=["line_item", "project_id"])
    assert [
        (r.line_item, r.quantity, r.quantity_unit, r.amount.value, r.project_id)
        for r in page.data[0].results
    ] == [
        ("large, input_tokens", 5, "tokens", 0, "red"),
        ("small, input_tokens", 800, "tokens", 0.008, "red"),
        ("small, cached_input_tokens", 200, "tokens", 0.002, "red"),
        ("small, output_tokens", 100, "tokens", 0.002, "red"),
        ("small, gpu_seconds", 10, "duration_seconds", 0.01, "red"),
    ]
    items = ["small, output_tokens", "small, gpu_seconds"]
    page = await costs(start_time=START, limit=1, line_items=items)
    [result] = page.data[0].results
    assert (result.amount.value, result.line_item) == (0.012, None)


async def test_invalid(usage_gateway: UsageGateway) -> None:
    """Limits are those of OpenAI, and errors name the parameter."""
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("usage/completions", {}, "start_time"),
        ("usage/completions", {"start_time": -1}, "start_time"),
        ("usage/completions", {"start_time": 9, "end_time": 9}, "end_time"),
        ("usage/completions", {"start_time": 0, "limit": 32}, "limit"),
        ("usage/completions", {"start_time": 0, "limit": 169, "bucket_width": "1h"}, "limit"),
        ("usage/embeddings", {"start_time": 0, "limit": 1441, "bucket_width": "1m"}, "limit"),
        ("usage/embeddings", {"start_time": 0, "group_by[]": "batch"}, "group_by[].0"),
        ("usage/embeddings", {"start_time": 0, "groups": "model"}, "groups"),
        ("usage/moderations", {"start_time": 0, "page": "page_x"}, "page"),
        ("usage/moderations", {"start_time": 0, "page": "page_" + "A" * 22}, "page"),
        ("costs", {"start_time": 0, "limit": 181}, "limit"),
        ("costs", {"start_time": 0, "bucket_width": "1h"}, "bucket_width"),
    ]
    for path, query, param in cases:
        response = await usage_gateway.get(path, **query)
        error = response.json()["error"]
        assert (path, response.status_code, error["param"]) == (path, 400, param)


async def test_page_of_another_query(usage_gateway: UsageGateway) -> None:
    """A page is refused with another width, beginning or end."""
    query = {"start_time": START + 60, "bucket_width": "1m", "limit": 1}
    cursor = (await usage_gateway.get("usage/completions", **query)).json()["next_page"]
    statuses = [
        (await usage_gateway.get("usage/completions", **{**query, "page": cursor, **change}))
        for change in ({}, {"bucket_width": "1h"}, {"start_time": START + DAY}, {"end_time": 2**33})
    ]
    assert [response.status_code for response in statuses] == [200, 400, 400, 400]


async def test_plain_lists(usage_gateway: UsageGateway) -> None:
    """Lists are accepted without brackets, too."""
    usage_gateway.store.add(START)
    response = await usage_gateway.get(
        "usage/completions", start_time=START, limit=1, group_by=["project_id", "model"]
    )
    [result] = response.json()["data"][0]["results"]
    assert (result["project_id"], result["model"]) == ("red", "small")


async def test_access(usage_gateway: UsageGateway) -> None:
    """Only admins see usage, and an outage of the database is reported."""
    usage_gateway.store.is_away = True
    for path in ("usage/completions", "usage/embeddings", "usage/moderations", "costs"):
        responses = [
            await usage_gateway.get(path, key, start_time=START) for key in ("other", "admin")
        ]
        assert [(r.status_code, r.json()["error"]["code"]) for r in responses] == [
            (403, "insufficient_permissions"),
            (503, "database_unavailable"),
        ]


async def test_metrics(usage_gateway: UsageGateway) -> None:
    """Only admins see revenue and active users in the metrics."""
    usage_gateway.store.add(time.time())
    seen = {}
    for key in ("admin", "other"):
        headers = {"accept": "text/plain", **bearer(usage_gateway.keys[key])}
        response = await usage_gateway.gateway.client.get("/metrics", headers=headers)
        seen[key] = [name in response.text for name in ("revenue", "active_users", "workers")]
    assert seen == {"admin": [True] * 3, "other": [False, False, True]}


async def test_open_metrics(tmp_path: Path) -> None:
    """Metrics that need no key have no revenue, nor have those of a gateway for everyone."""
    folder = KeyFolder(tmp_path)
    settings = folder.settings
    settings["auth"]["open_metrics"] = True
    for options in (settings, {"auth": {"mode": "none"}}):
        async with start(usage_store=FakeUsageStore(), **options) as gateway:
            response = await gateway.client.get("/metrics", headers={"accept": "text/plain"})
        assert "workers" in response.text
        assert "revenue" not in response.text


async def test_metrics_key(tmp_path: Path) -> None:
    """Prometheus sees revenue and active users with the key that has no other use."""
    settings, key = KeyFolder(tmp_path).settings, "k" * 32
    settings["auth"]["metrics_key"] = key
    headers = {"accept": "text/plain", **bearer(key)}
    async with start(usage_store=FakeUsageStore(), **settings) as gateway:
        response = await gateway.client.get("/metrics", headers=headers)
        refused = await gateway.client.get("/v1/models", headers=headers)
    assert all(name in response.text for name in ("revenue", "active_users", "workers"))
    assert refused.status_code == 401


async def test_no_usage(gateway: Gateway, tmp_path: Path) -> None:
    """Without authentication, or without a ledger, there is no usage, and the reason is told."""
    folder = KeyFolder(tmp_path)
    key = folder.add(admin=True)
    async with start(**folder.settings) as other:
        responses = [
            await each.client.get("/v1/organization/costs?start_time=0", headers=bearer(key))
            for each in (gateway, other)
        ]
    assert [(r.status_code, r.json()["error"]["message"][:30]) for r in responses] == [
        (501, "Usage is for admins: set auth."),
        (501, "Usage is not recorded: set usa"),
    ]
