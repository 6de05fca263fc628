"""A transport handed to `create_app` stands in for the engines."""

from contextlib import AsyncExitStack

import httpx

from maxgate.app import create_app
from maxgate.settings import Settings
from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax
from tests.fakes.server import serving


async def test_handed_in_transport() -> None:
    """Health checks, capability probes and requests all go through the transport."""
    engine = FakeMax(penalties=False)
    settings = Settings(engines=["http://engine:8080"], cards=[SMALL_CARD])
    async with AsyncExitStack() as stack:
        app = create_app(settings, transport=httpx.ASGITransport(engine))
        url = await stack.enter_async_context(serving(app))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, verify=TLS))
        health = (await client.get("/health")).json()["engines"][0]
        body = {"messages": [{"role": "user", "content": "Hello"}]}
        response = await client.post("/v1/chat/completions", json=body)
    assert (health["state"], health["models"]) == ("healthy", list(engine.models))
    assert health["capabilities"][engine.models[0]]["penalties"] is False
    assert response.json()["choices"][0]["message"]["content"] == "".join(OUTPUT_TOKENS)
    assert engine.paths == ["/v1/completions"]
