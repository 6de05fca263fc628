"""Web pages and the gateway: cross-site requests, foreign hosts and CORS."""

import pytest

from tests.fakes.gateway import Gateway, StartGateway

CHAT = b'{"messages":[{"role":"user","content":"Hello"}]}'
PAGE = {"origin": "https://chat.example.org"}


@pytest.mark.parametrize("headers", [PAGE, {"host": "attacker.example"}])
async def test_refused(gateway: Gateway, headers: dict[str, str]) -> None:
    """A cross-site POST without Content-Type and a foreign Host are refused, in OpenAI's shape."""
    response = await gateway.client.post("/v1/chat/completions", content=CHAT, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")
    assert gateway.engine.requests == []


async def test_no_preflight(gateway: Gateway) -> None:
    """By default no page of another site may use the API."""
    headers = {**PAGE, "access-control-request-method": "POST"}
    response = await gateway.client.options("/v1/chat/completions", headers=headers)
    assert "access-control-allow-origin" not in response.headers


async def test_cors(start_gateway: StartGateway) -> None:
    """Pages of `cors_origins` pass the preflight and can read responses and errors."""
    preflight = {
        **PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type",
    }
    async with start_gateway(server={"cors_origins": [PAGE["origin"]]}) as gateway:
        client, path = gateway.client, "/v1/chat/completions"
        responses = [
            await client.options(path, headers=preflight),
            await client.post(path, content=CHAT, headers=PAGE),
            await client.post(path, content=b"{", headers=PAGE),
            await client.get("/nowhere", headers=PAGE),
        ]
        stranger = await client.options(path, headers={**preflight, "origin": "https://other"})
    allowed = [r.headers.get("access-control-allow-origin") for r in (*responses, stranger)]
    assert allowed == [PAGE["origin"]] * 4 + [None]
    assert responses[1].headers["access-control-expose-headers"] == (
        "x-request-id, x-maxgate-queue-ms, x-maxgate-cost, retry-after, retry-after-ms, "
        "x-should-retry, "
        "x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
        "x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
    )
    assert [r.status_code for r in (*responses, stranger)] == [200, 200, 400, 404, 400]
