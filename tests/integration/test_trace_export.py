"""A gateway process exports its traces to a collector, and joins its logs with them."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import FakeMax
from tests.fakes.processes import ServerProcess, api_server
from tests.fakes.server import serving


@dataclass
class FakeCollector:
    """Takes spans by OTLP over HTTP."""

    status: int = 200
    requests: list[tuple[str, ExportTraceServiceRequest]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] != "http":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        self.requests.append((scope["path"], ExportTraceServiceRequest.FromString(body)))
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def traced_server(
    collector: FakeCollector, engine: FakeMax, **variables: str
) -> AsyncIterator[tuple[ServerProcess, httpx.AsyncClient]]:
    """A gateway that exports to the collector, and a client; it stops at the end of the block."""
    async with serving(collector) as collector_url, serving(engine) as engine_url:
        environment: dict[str, Any] = {
            "MAXGATE_TRACING__ENABLED": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector_url,
            **variables,
        }
        flags = ("--engine-url", engine_url, "--card", str(SMALL_CARD), "--log-format", "json")
        async with (
            api_server(*flags, **environment) as server,
            httpx.AsyncClient(base_url=server.url, verify=TLS) as client,
        ):
            yield server, client
            server.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(server.process.wait(), 10)


async def test_export() -> None:
    """Spans that wait for their export reach the collector when the gateway stops.

    The collector, the service's name and the delay come from the standard variables.
    """
    collector, engine = FakeCollector(), FakeMax()
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    variables = {"OTEL_SERVICE_NAME": "edge", "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    async with traced_server(collector, engine, **variables) as (server, client):
        await client.post("/v1/chat/completions", json=body)
    [(path, request)] = collector.requests
    [resource] = request.resource_spans
    names = {item.key: item.value.string_value for item in resource.resource.attributes}
    spans = [span for scope in resource.scope_spans for span in scope.spans]
    logged = [json.loads(line) for line in server.lines]
    [line] = [line for line in logged if line["message"] == "request completed"]
    assert (path, names["service.name"]) == ("/v1/traces", "edge")
    assert {span.name for span in spans} == {
        "chat smollm2-135m-instruct",
        "encode the prompt",
        "POST /v1/completions",
    }
    assert {span.trace_id.hex() for span in spans} == {line["trace_id"]}
    assert line["request_id"] == engine.headers[0]["x-request-id"]


@pytest.mark.parametrize(("status", "batches"), [(400, 3), (501, 1)], ids=["final", "retried"])
async def test_failed_export(status: int, batches: int) -> None:
    """A collector that refuses several batches costs one line, and none of other libraries."""
    collector, engine = FakeCollector(status=status), FakeMax()
    variables = {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1", "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}
    async with traced_server(collector, engine, **variables) as (server, client):
        for _ in range(batches):
            await client.get("/v1/models")
    logged = [json.loads(line) for line in server.lines]
    assert len(collector.requests) >= batches
    assert [
        (line["component"], line["message"])
        for line in logged
        if line["level"] != "info" or line["component"] == "libraries"
    ] == [("telemetry", "traces are lost, the collector does not take them")]
