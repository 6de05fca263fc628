"""The gateway reads the metrics of its engines, whatever they contain."""

import asyncio
from typing import Any

import httpx
import pytest

from maxgate.app import create_app
from maxgate.settings import Settings
from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import FakeMax
from tests.fakes.server import serving

ORPHANED = "maxgate_engine_requests_orphaned"


class MeasuredMax(FakeMax):
    """A fake MAX with metrics; `read` is set when they have been read twice."""

    def __init__(self, metrics: bytes) -> None:
        super().__init__()
        self.metrics = metrics
        self.readings = 0
        self.read = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI connection scope."""
        if scope.get("path") != "/metrics":
            await super().__call__(scope, receive, send)
            return
        self.readings += 1
        if self.readings > 1:
            self.read.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.metrics})


async def read_orphaned(metrics: bytes) -> str | None:
    """Return the gauge of requests that no client waits for, at an engine with these metrics."""
    return await read_gauge(metrics, ORPHANED)


async def read_gauge(metrics: bytes, name: str, path: str = "/metrics") -> str | None:
    """Return a gauge of a gateway that has served a request, at an engine with these metrics."""
    engine = MeasuredMax(metrics)
    async with serving(engine) as engine_url:
        settings = Settings(
            engines=[{"url": engine_url, "metrics_url": f"{engine_url}/metrics"}],
            cards=[SMALL_CARD],
        )
        async with (
            serving(create_app(settings)) as url,
            httpx.AsyncClient(base_url=url, verify=TLS) as client,
        ):
            await engine.read.wait()
            body = {"messages": [{"role": "user", "content": "Hello"}]}
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
            text = (await client.get(path, headers={"accept": "text/plain"})).text
    lines = [line.split(" ") for line in text.splitlines() if line.startswith(name + "{")]
    return lines[0][1] if lines else None


async def test_orphaned_requests() -> None:
    """Requests at the engine that are not in progress here are counted."""
    assert await read_orphaned(b"maxserve_num_requests_running 3\n") == "3.0"
    assert await read_orphaned(b"maxserve_batch_size_count 3\n") == "0.0"


async def test_cache_use() -> None:
    """The use of the engines' KV caches is exported under vLLM's name."""
    blocks = b"maxserve_cache_num_used_blocks 30\nmaxserve_cache_num_total_blocks 40\n"
    assert await read_gauge(blocks, "vllm:kv_cache_usage_perc", "/metrics/vllm") == "0.75"


@pytest.mark.parametrize(
    "metrics", [b"", b"maxserve_num_requests_running NaN\n", b"\xff" * 3_000_000]
)
async def test_odd_metrics(metrics: bytes) -> None:
    """Metrics that make no sense have no effect."""
    assert await read_orphaned(metrics) is None


BUSY = b"maxserve_num_requests_running 10\nmaxserve_cache_num_total_blocks 100\n"


@pytest.mark.parametrize("policy", ["least_loaded", "session", "prefix_affinity"])
async def test_kv_pressure(policy: str) -> None:
    """Of two engines with as many requests, the one with room in its KV cache gets new ones."""
    full = MeasuredMax(BUSY + b"maxserve_cache_num_used_blocks 98\n")
    roomy = MeasuredMax(BUSY + b"maxserve_cache_num_used_blocks 60\n")
    async with serving(full) as full_url, serving(roomy) as roomy_url:
        settings = Settings(
            engines=[
                {"url": url, "metrics_url": f"{url}/metrics"} for url in (full_url, roomy_url)
            ],
            cards=[SMALL_CARD],
            routing={"policy": policy, "block_size": 16, "load_factor": 1.1},
        )
        async with (
            serving(create_app(settings)) as url,
            httpx.AsyncClient(base_url=url, verify=TLS) as client,
        ):
            await full.read.wait()
            await roomy.read.wait()
            for number in range(12):
                body = {
                    "messages": [{"role": "user", "content": f"{number}, hello there. " * 9}],
                    "user": str(number),
                }
                assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
    assert (len(full.requests), len(roomy.requests)) == (0, 12)
