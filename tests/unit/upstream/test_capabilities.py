"""Capabilities are probed with small requests."""

import asyncio

import httpx
import orjson
import pytest

from maxgate.generation.catalog import Capabilities
from maxgate.upstream.capabilities import probe_capabilities
from maxgate.upstream.client import HttpxEngineClient
from tests.fakes.max_server import FakeMax


async def probe(transport: httpx.AsyncBaseTransport) -> Capabilities:
    """Return the capabilities of one model of the engine behind the transport."""
    client = HttpxEngineClient(transport)
    found = await probe_capabilities(client, "http://engine", ["small"], read_timeout=0.05)
    return found["small"]


@pytest.mark.parametrize("enabled", [True, False])
async def test_probes(*, enabled: bool) -> None:
    """Each capability is reported as the engine was started."""
    flags = dict.fromkeys(("grammar", "logprobs", "penalties", "min_tokens"), enabled)
    found = await probe(httpx.ASGITransport(FakeMax(**flags)))
    assert found == Capabilities(**flags)


async def test_no_response() -> None:
    """Capabilities whose probes get no response are unknown."""

    async def wait(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    assert await probe(httpx.MockTransport(wait)) == Capabilities(None, None, None, None)


async def test_invalid_response() -> None:
    """Text that cannot be read does not differ, so penalties and `min_tokens` count as ignored."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>"))
    assert await probe(transport) == Capabilities(
        grammar=True, logprobs=True, penalties=False, min_tokens=False
    )


async def test_llama_cpp_python() -> None:
    """An engine that takes `json_object` but no schema, and has no token ids, is fully known."""

    def respond(request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        if body.get("response_format", {}).get("type") == "json_schema":
            return httpx.Response(500, json={"error": {"message": "1 validation error"}})
        text = "b" if "frequency_penalty" in body else "a"
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "length"}
        return httpx.Response(200, json={"choices": [choice], "usage": {"completion_tokens": 2}})

    assert await probe(httpx.MockTransport(respond)) == Capabilities(
        grammar=False, logprobs=True, penalties=True, min_tokens=False
    )
