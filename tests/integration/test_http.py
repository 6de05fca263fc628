"""Everything around chat: models, health, metrics, the OpenAPI page, and errors in one shape."""

import asyncio
import json
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from maxgate.app import create_app
from maxgate.settings import Settings
from tests.fakes.gateway import Gateway, StartGateway
from tests.fakes.max_server import FakeMax
from tests.fakes.server import serving
from tests.fakes.waiting import until

MODEL = {
    "id": "smollm2-135m-instruct",
    "object": "model",
    "created": 1,
    "owned_by": "maxgate",
    "max_model_len": 8192,
}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_models_are_listed(gateway: Gateway, method: str) -> None:
    response = await gateway.client.request(method, "/v1/models")
    assert response.json() == {"object": "list", "data": [MODEL]}


@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "smollm2"])
async def test_a_model_is_described(gateway: Gateway, name: str) -> None:
    assert (await gateway.client.get(f"/v1/models/{name}")).json() == MODEL


async def test_a_model_may_have_a_slash_in_its_name(start_gateway: StartGateway) -> None:
    async with start_gateway(FakeMax(models=["owner/name"])) as gateway:
        response = await gateway.client.get("/v1/models/owner/name")
    assert response.json()["id"] == "owner/name"


async def test_health_tells_of_each_engine(start_gateway: StartGateway) -> None:
    async with start_gateway() as gateway:
        response = await gateway.client.get("/health")
        health = response.json()
        url = health["engines"][0].pop("url")
        assert (response.status_code, url.startswith("http://127.0.0.1")) == (200, True)
        capabilities = {
            "smollm2-135m-instruct": {"grammar": False, "logprobs": True, "penalties": True}
        }
        assert health == {
            "status": "healthy",
            "version": "0.1.0",
            "engines": [
                {
                    "state": "healthy",
                    "models": ["smollm2-135m-instruct"],
                    "in_flight": 0,
                    "error": None,
                    "capabilities": capabilities,
                    "abilities": capabilities,  # the old name, for one version
                }
            ],
            "models": ["smollm2-135m-instruct"],
        }
        two = [url, "http://127.0.0.1:9"]
        async with start_gateway(engine_urls=two) as other:
            degraded = await other.client.get("/health")
            assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
            assert (await other.client.get("/health/ready")).status_code == 200


async def test_without_an_engine_it_lives_but_is_not_ready(start_gateway: StartGateway) -> None:
    async with start_gateway(engine_urls=["http://127.0.0.1:9"]) as gateway:
        statuses = {
            path: (await gateway.client.get(path)).status_code
            for path in ("/health", "/health/live", "/health/ready")
        }
        assert statuses == {"/health": 503, "/health/live": 200, "/health/ready": 503}
        health = (await gateway.client.get("/health")).json()
        assert (health["status"], health["engines"][0]["error"]) == ("unhealthy", "no connection")


async def test_an_engine_that_comes_back_is_found(start_gateway: StartGateway) -> None:
    engine = FakeMax(models=[])
    upstream = {"probe_interval": 0.01}
    async with start_gateway(engine, upstream=upstream) as gateway:
        assert (await gateway.chat(model="smollm2")).status_code == 404
        engine.models = ["smollm2-135m-instruct"]

        async def it_is_found() -> bool:
            return bool((await gateway.client.get("/health")).json()["models"])

        await until(it_is_found)
        assert (await gateway.chat(model="smollm2")).status_code == 200


async def test_metrics_are_json_for_people_and_text_for_prometheus(gateway: Gateway) -> None:
    await gateway.chat()
    await gateway.chat(model="gpt-4")
    await gateway.client.get("/nowhere")
    metrics = (await gateway.client.get("/metrics")).json()
    assert metrics["requests"] == {
        "count": 3,
        "errors": 0,
        "error_rate": 0.0,
        "by_outcome": {"ok": 1, "client_error": 2},
        "in_flight": 0,
    }
    assert metrics["tokens"] == {"prompt": 37, "completion": 8, "cached": 5, "total": 45}
    assert list(metrics["models"]) == ["smollm2-135m-instruct"]
    text = await gateway.client.get("/metrics", headers={"accept": "text/plain;version=0.0.4"})
    assert text.headers["content-type"].startswith("text/plain; version=")
    names = {family.name for family in text_string_to_metric_families(text.text)}
    assert {"maxgate_requests", "maxgate_tokens", "maxgate_request_duration_seconds"} <= names
    assert {"maxgate_process_cpu_seconds", "maxgate_process_resident_memory_bytes"} <= names


async def test_metrics_have_buckets_for_those_who_ask(gateway: Gateway) -> None:
    await gateway.chat()
    plain = (await gateway.client.get("/metrics")).json()["models"]
    full = (await gateway.client.get("/metrics?buckets=true")).json()["models"]
    latency = full["smollm2-135m-instruct"]["latency_seconds"]
    assert [count for _, _, count in latency.pop("buckets")] == [1]
    assert latency == plain["smollm2-135m-instruct"]["latency_seconds"]


async def test_names_that_clients_make_up_make_no_series(gateway: Gateway) -> None:
    for number in range(70):
        await gateway.chat(model=f"made-up-{number}")
        await gateway.client.get(f"/made/up/{number}")
    text = await gateway.client.get("/metrics", headers={"accept": "text/plain"})
    assert "made" not in text.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_supported"),
        ("DELETE", "/v1/models", 405, "method_not_supported"),
        ("PROPFIND", "/v1/models", 405, "method_not_supported"),
        ("GET", "/v1/models/", 404, "model_not_found"),
        ("GET", "/v1/models/gpt-4", 404, "model_not_found"),
        ("GET", "//v1/models", 404, "not_found"),
    ],
)
async def test_what_is_not_there_is_said_in_openais_shape(
    gateway: Gateway, method: str, path: str, status: int, code: str
) -> None:
    response = await gateway.client.request(method, gateway.url + path)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (
        status,
        code,
        "invalid_request_error",
    )
    assert error.keys() == {"message", "type", "param", "code"}


async def test_the_methods_that_there_are_are_named(gateway: Gateway) -> None:
    response = await gateway.client.delete("/v1/models")
    assert response.headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    "sent",
    [
        b"FOO /v1/models HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_answered_in_the_same_shape(
    gateway: Gateway, sent: bytes
) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/chat",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{",
    ],
)
async def test_a_request_that_does_not_arrive_is_given_up(sent: bytes) -> None:
    app = create_app(Settings(engine_urls=["http://127.0.0.1:9"]))
    async with serving(app, request_read_timeout=0.05) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert json.loads(body)["error"]["code"] == "request_timeout"


async def test_a_connection_may_be_idle_between_requests() -> None:
    app = create_app(Settings(engine_urls=["http://127.0.0.1:9"]))
    async with (
        serving(app, request_read_timeout=0.05) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        for _ in range(2):
            assert (await client.get("/health/live")).status_code == 200
            await asyncio.sleep(0.1)  # longer than a request may take to arrive


async def test_bodies_over_the_limit_are_refused(start_gateway: StartGateway) -> None:
    async with start_gateway(max_body_bytes=1000) as gateway:
        response = await gateway.chat(user="x" * 1000)

        async def pieces():
            for _ in range(50):
                yield b" " * 100

        chunked = await gateway.client.post("/v1/chat/completions", content=pieces())
    for refused in (response, chunked):
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("my-id_1.2:3", True), ("x" * 129, False), ("a b", False), ("a\\r\\nset-cookie", False)],
)
async def test_a_request_id_is_returned_and_a_strange_one_replaced(
    gateway: Gateway, given: str, *, kept: bool
) -> None:
    response = await gateway.client.get("/v1/models", headers={"x-request-id": given})
    returned = response.headers["x-request-id"]
    assert (returned == given) if kept else returned.startswith("req_")


async def test_the_openapi_page_names_every_route(gateway: Gateway) -> None:
    schema = (await gateway.client.get("/openapi.json")).json()
    assert {(path, method) for path, item in schema["paths"].items() for method in item} == {
        ("/v1/chat/completions", "post"),
        ("/v1/completions", "post"),
        ("/v1/embeddings", "post"),
        ("/v1/models", "get"),
        ("/v1/models", "post"),
        ("/v1/models/{model}", "get"),
        ("/health", "get"),
        ("/health/live", "get"),
        ("/health/ready", "get"),
        ("/metrics", "get"),
    }
    assert "422" not in str(schema)
    kinds = {
        path: set(operation["responses"]["200"]["content"]) - {"application/json"}
        for path, item in schema["paths"].items()
        for operation in item.values()
    }
    assert {path: kind for path, kind in kinds.items() if kind} == {
        "/v1/chat/completions": {"text/event-stream"},
        "/v1/completions": {"text/event-stream"},
        "/metrics": {"text/plain", "application/openmetrics-text"},
    }
    assert (await gateway.client.get("/docs")).status_code == 200


async def test_small_answers_are_sent_at_once(gateway: Gateway) -> None:
    # With Nagle's algorithm each of them would take 40 ms.
    fastest = 1.0
    for _ in range(10):
        began = time.perf_counter()
        await gateway.client.get("/v1/models")
        fastest = min(fastest, time.perf_counter() - began)
    assert fastest < 0.03


async def test_a_bug_is_a_500_that_tells_nothing(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maxgate.api.chat.service import ChatService

    async def broken(*_: object) -> bytes:
        raise RuntimeError("secret /root/path")

    monkeypatch.setattr(ChatService, "complete", broken)
    async with start_gateway() as gateway:
        response = await gateway.chat()
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in response.text


async def test_large_bodies_are_no_large_heads(gateway: Gateway) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "user": "u" * 600}
    for padding in (0, 300_000):
        content = json.dumps(body).encode() + b" " * padding
        response = await gateway.client.post(
            "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )
        assert response.json()["error"]["param"] == "user"


async def test_docs_are_read_only(gateway: Gateway) -> None:
    """POST on the documentation is not allowed."""
    for path in ("/docs", "/openapi.json"):
        response = await gateway.client.post(path)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (405, "method_not_supported")
