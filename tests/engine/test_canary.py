"""A canary on the real engine, which is compared with itself: a second one would take too long."""

from contextlib import aclosing
from dataclasses import replace

import httpx
import pytest

from maxgate.canary.gap import measure_gap
from maxgate.generation.request import TokenIds
from maxgate.upstream.client import HttpxEngineClient
from tests.engine.real_gateway import RealGateway
from tests.fakes.gateway import TLS
from tests.fakes.requests import generation_request, served_model
from tests.fakes.waiting import until

pytestmark = pytest.mark.engine

MODEL = "smollm2-135m-instruct"
QUESTIONS = ("What is the capital of France?", "Write about the sea.")


async def test_same_engine(real_gateway: RealGateway) -> None:
    """Greedy responses are equal token by token, and have all times."""
    new = {"url": real_gateway.engine_url, "share": 100, "mirror": True}
    async with httpx.AsyncClient(base_url=real_gateway.url, timeout=120, verify=TLS) as client:
        assert (await client.post("/admin/canary", json=new)).status_code == 201

        async def is_running() -> bool:
            return (await client.get("/admin/canary")).json()["state"] == "running"

        await until(is_running, within=30)
        for question in QUESTIONS:
            for stream in (True, False):
                body = {
                    "model": MODEL,
                    "messages": [{"role": "user", "content": question}],
                    "temperature": 0,
                    "max_tokens": 12,
                    "stream": stream,
                }
                assert (await client.post("/v1/chat/completions", json=body)).status_code == 200

        async def has_compared() -> bool:
            return (await client.get("/admin/canary")).json()["completed"] == 4

        await until(has_compared, within=120)
        result = (await client.delete("/admin/canary")).json()
    assert (result["agreement"]["equal"], result["errors"], result["skipped"]) == (4, 0, {})
    assert [one["metric"] for one in result["times"]] == ["ttft", "tpot", "time_per_token"]


async def test_gap(real_gateway: RealGateway) -> None:
    """MAX reports the log probabilities of the two likeliest tokens after given ids."""
    request = generation_request(prompt=TokenIds.of([1, 2, 3]))
    request = request._replace(model=replace(served_model(), engine_name=MODEL))
    async with aclosing(HttpxEngineClient()) as client:
        gap = await measure_gap(client, real_gateway.engine_url, request, [4])
    assert gap is not None
    assert gap == pytest.approx(2.126, abs=0.01)
