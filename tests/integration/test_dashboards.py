"""Every query of the dashboards has data in a real Prometheus that scrapes a gateway under load."""

import asyncio
import math
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from maxgate.hardware.gpus import GpuSource
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.settings import DatabaseSettings
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.prometheus import MetricsReader
from maxgate.telemetry.system import SystemReader, export_gpus
from tests.conftest import ROOT
from tests.fakes.api_keys import PEPPER, bearer
from tests.fakes.clock import FakeClock
from tests.fakes.dashboards import FILES, Query, list_queries, list_variables, load_dashboard
from tests.fakes.gateway import Gateway, start
from tests.fakes.max_server import OUTPUT_TOKENS, Script
from tests.fakes.measured_engine import MeasuredEngine
from tests.fakes.nvml import FakeNvml
from tests.fakes.prometheus_server import Prometheus, fill_variables, find_program, run_prometheus
from tests.fakes.server import serving
from tests.fakes.stored_keys import StoredKeys

MODEL: Final = "smollm2-135m-instruct"
METRICS_KEY: Final = "0123456789abcdef" * 4
SETTINGS: Final[dict[str, Any]] = {
    "auth": {"mode": "keys", "pepper": [PEPPER], "metrics_key": METRICS_KEY},
    "usage": {"enabled": True, "move_interval": 0.1},
    "admission": {"slots": 8},
    "pricing": {
        "rate_cards": [
            {"model": MODEL, "price": {"input": 10, "output": 40}, "cost": {"input": 2}},
        ]
    },
    "limits": {"keys": {"key_2": {"requests_per_day": 1}}},
    "guardrails": [{"name": "words", "kind": "words", "words": ["falcon"], "action": "block"}],
    "telemetry": {"host": True, "certificates": [ROOT / "tests" / "data" / "tls" / "ca.pem"]},
}
ONE_OF_EACH: Final = {name: ".*" for file in FILES for name in list_variables(load_dashboard(file))}
_LABEL_VALUES: Final = re.compile(r"label_values\((.*), (\w+)\)")


class GpuExporter:
    """The metrics of a gateway on a host with two GPUs, which this host does not have."""

    def __init__(self) -> None:
        source = GpuSource(FakeNvml())
        system = SystemReader([("telemetry.gpu", lambda: export_gpus(source.read()))])
        self._reader = MetricsReader(MetricsStore(FakeClock()), system)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] == "lifespan":
            for _ in range(2):
                await send({"type": (await receive())["type"] + ".complete"})
            return
        await self._reader.refresh()
        body, content_type = self._reader.expose([], "text/plain")
        headers = [(b"content-type", content_type.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def send_requests(gateway: Gateway, keys: list[str]) -> None:
    """Send requests with various ends: successes, continued and truncated streams, refusals."""

    async def chat(key: str, text: str = "Hello", **fields: Any) -> int:
        body = {"messages": [{"role": "user", "content": text}], **fields}
        headers = bearer(key)
        response = await gateway.client.post("/v1/chat/completions", json=body, headers=headers)
        return response.status_code

    first, limited = keys
    statuses = [
        await chat(first),
        await chat(first, stream=True),
        await chat(limited),
        await chat("sk-mg-wrong"),
        await chat(first, "A falcon."),
        await chat(first, temperature=9),
    ]
    for scripts in ([Script(cut_after=2)], [Script(cut_after=2), Script(status=500)]):
        gateway.engine.scripts = list(scripts)  # a stream that is continued, and one that is not
        statuses.append(await chat(first, stream=True))
    assert statuses[:2] == [200, 200]
    assert statuses[2] in {200, 429}
    assert statuses[3] in {401, 429}  # too many wrong keys
    assert statuses[4:] == [400, 400, 200, 200]
    gateway.engine.scripts = [Script(silent_after=2)]
    body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
    async with gateway.client.stream(
        "POST", "/v1/chat/completions", json=body, headers=bearer(first)
    ) as response:
        await anext(response.aiter_bytes())


@asynccontextmanager
async def under_load(gateway: Gateway, keys: list[str]) -> AsyncIterator[asyncio.Task[None]]:
    """Send requests until the end of the block; an unexpected response fails the task."""

    async def run() -> None:
        while True:
            await send_requests(gateway, keys)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def is_filled(prometheus: Prometheus, query: Query) -> bool:
    """Whether a query has at least one sample that is a number."""
    samples = await prometheus.query(fill_variables(query.expression, ONE_OF_EACH))
    return any(not math.isnan(float(sample["value"][1])) for sample in samples)


async def test_dashboards(tmp_path: Path) -> None:
    """No panel is empty, all variables have values, and Prometheus can evaluate all rules."""
    find_program("prometheus")
    identities = open_identity_store(DatabaseSettings(), tmp_path)
    stored = StoredKeys(identities)
    keys = [await stored.add("key_1"), await stored.add("key_2")]
    await identities.aclose()
    engine = MeasuredEngine(default=Script(OUTPUT_TOKENS, gap=0.005))
    async with AsyncExitStack() as stack:
        engine_url = await stack.enter_async_context(serving(engine))
        gateway = await stack.enter_async_context(
            start(
                engine,
                engines=[{"url": engine_url, "metrics_url": f"{engine_url}/metrics"}],
                state_dir=tmp_path,
                **SETTINGS,
            )
        )
        gpus = await stack.enter_async_context(serving(GpuExporter()))
        targets = {"maxgate": {gateway.url: METRICS_KEY, gpus: None}, "max": {engine_url: None}}
        prometheus = await stack.enter_async_context(run_prometheus(tmp_path, targets))
        load = await stack.enter_async_context(under_load(gateway, keys))
        empty = list(list_queries())
        for _ in range(60):
            empty = [query for query in empty if not await is_filled(prometheus, query)]
            if not empty or load.done():
                break
            await asyncio.sleep(1)
        if load.done():
            load.result()
        assert empty == []
        await check_variables(prometheus)
        groups = (await prometheus.get("rules"))["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}
        assert {rule["health"] for rule in rules} == {"ok"}


async def check_variables(prometheus: Prometheus) -> None:
    """Assert that each variable has values."""
    for file in FILES:
        for name, query in list_variables(load_dashboard(file)).items():
            match = _LABEL_VALUES.fullmatch(query)
            assert match is not None, query
            selector = fill_variables(match[1], ONE_OF_EACH)
            values = await prometheus.get(f"label/{match[2]}/values", **{"match[]": selector})
            assert values, (file.stem, name)
