"""Everything around chat: models, health, metrics, OpenAPI, limits and error responses."""

import json
import re
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typing_extensions import override

from maxgate.app import create_app
from maxgate.settings import Settings
from maxgate.telemetry.registry import METRICS
from tests.fakes.gateway import SMALL_CARD, TLS, Gateway, StartGateway
from tests.fakes.max_server import FakeMax
from tests.fakes.raw_client import send_bytes
from tests.fakes.server import serving
from tests.fakes.waiting import until

MODEL = {
    "id": "smollm2-135m-instruct",
    "object": "model",
    "created": 1,
    "owned_by": "maxgate",
    "max_model_len": 8192,
    "prompts": "gateway",
}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_list_models(gateway: Gateway, method: str) -> None:
    """GET and POST list the models of all engines."""
    response = await gateway.client.request(method, "/v1/models")
    assert response.json() == {"object": "list", "data": [MODEL]}


@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "smollm2"])
async def test_get_model(gateway: Gateway, name: str) -> None:
    """A model is found by its id or its alias."""
    assert (await gateway.client.get(f"/v1/models/{name}")).json() == MODEL


async def test_slash_in_model_name(start_gateway: StartGateway) -> None:
    """A model name may contain a slash."""
    async with start_gateway(FakeMax(models=["owner/name"])) as gateway:
        response = await gateway.client.get("/v1/models/owner/name")
    assert response.json()["id"] == "owner/name"


async def test_unknown_context_length(start_gateway: StartGateway) -> None:
    """A context length that no engine reports is null, as with llama.cpp and Ollama."""
    async with start_gateway(FakeMax(models=["stranger"], context_length=None)) as gateway:
        response = await gateway.client.get("/v1/models/stranger")
    assert response.json() == {
        **MODEL,
        "id": "stranger",
        "max_model_len": None,
        "prompts": "engine",
    }


async def test_base_url_without_version(gateway: Gateway) -> None:
    """OpenAI's routes are served without /v1 too, and recorded under their documented path."""
    client, hello = gateway.client, [{"role": "user", "content": "Hello"}]
    responses = [
        await client.post("/chat/completions", json={"messages": hello}),
        await client.post("/completions", json={"prompt": "Hello"}),
        await client.get("/models"),
        await client.get("/models/smollm2"),
        await client.head("/models"),
    ]
    assert [response.status_code for response in responses] == [200] * 5
    assert (await client.post("/embeddings", json={})).json()["error"]["param"] == "input"
    assert (await client.post("/moderations", json={})).json()["error"]["param"] == "input"
    metrics = (await client.get("/metrics", headers={"accept": "text/plain"})).text
    assert set(re.findall('route="(.*?)"', metrics)) == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/moderations",
        "/v1/models",
        "/v1/models/{model}",
    }


async def test_wrong_method_without_version(gateway: Gateway) -> None:
    """A wrong method on a path without /v1 is answered as on the documented path."""
    response = await gateway.client.get("/chat/completions")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_health(start_gateway: StartGateway) -> None:
    """Health shows the state of each engine, and is degraded while one of them is down."""
    async with start_gateway() as gateway:
        response = await gateway.client.get("/health")
        health = response.json()
        url = health["engines"][0].pop("url")
        assert len(health["engines"][0].pop("id")) == 8
        assert (response.status_code, url.startswith("http://127.0.0.1")) == (200, True)
        capabilities = {
            "smollm2-135m-instruct": {
                "grammar": False,
                "logprobs": True,
                "penalties": True,
                "min_tokens": True,
            }
        }
        assert health == {
            "status": "healthy",
            "version": "0.1.0",
            "engines": [
                {
                    "state": "healthy",
                    "draining": False,
                    "weight": 1.0,
                    "breakers": {},
                    "software": "MAX",
                    "models": ["smollm2-135m-instruct"],
                    "in_flight": 0,
                    "watch_failures": 0,
                    "error": None,
                    "capabilities": capabilities,
                    "abilities": capabilities,  # the old name, for one version
                }
            ],
            "models": ["smollm2-135m-instruct"],
            "prompts": {"smollm2-135m-instruct": "gateway"},
        }
        two = [url, "http://127.0.0.1:9"]
        async with start_gateway(engines=two) as other:
            degraded = await other.client.get("/health")
            assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
            assert (await other.client.get("/health/ready")).status_code == 200


async def test_health_of_drained_engines(start_gateway: StartGateway) -> None:
    """Drained engines do not count: one that is down is no fault, and none makes it ready."""
    async with start_gateway() as first:
        [engine] = (await first.client.get("/health")).json()["engines"]
        up, down = engine["url"], "http://127.0.0.1:9"
        async with start_gateway(engines=[up, down]) as gateway:
            client, paths = gateway.client, ("/health", "/health/ready")
            listed = (await client.get("/admin/engines")).json()["data"]
            ids = {engine["url"]: engine["id"] for engine in listed}
            found = []
            for url in (down, up):
                await client.patch(f"/admin/engines/{ids[url]}", json={"draining": True})
                responses = [await client.get(path) for path in paths]
                health = responses[0].json()
                states = [(engine["state"], engine["draining"]) for engine in health["engines"]]
                statuses = [response.status_code for response in responses]
                found.append((health["status"], states, statuses))
    down_drained = ("unreachable", True)
    assert found == [
        ("healthy", [("healthy", False), down_drained], [200, 200]),
        ("unhealthy", [("draining", True), down_drained], [503, 503]),
    ]


@pytest.mark.parametrize(
    ("required", "prompts", "status"), [(False, "engine", 200), (True, "unavailable", 503)]
)
async def test_missing_tokenizer(
    start_gateway: StartGateway, tmp_path: Path, *, required: bool, prompts: str, status: int
) -> None:
    """Without its tokenizer, the engine formats a model's prompts, unless that is forbidden."""
    async with start_gateway(cache_dir=tmp_path, require_tokenizer=required) as gateway:
        health = (await gateway.client.get("/health")).json()
        [model] = (await gateway.client.get("/v1/models")).json()["data"]
        response = await gateway.chat()
    assert health["prompts"] == {"smollm2-135m-instruct": prompts}
    assert (model["prompts"], response.status_code) == (prompts, status)
    if required:
        assert response.headers["retry-after"] == "30"
        assert response.json()["error"] == {
            "message": "The tokenizer of smollm2-135m-instruct is not on the gateway's machine, "
            "and the model is not served without it. The gateway's log has the command that "
            "fetches it.",
            "type": "server_error",
            "param": None,
            "code": "upstream_unavailable",
        }


async def test_no_engine(start_gateway: StartGateway) -> None:
    """Without an engine the gateway is live but not ready."""
    async with start_gateway(engines=["http://127.0.0.1:9"]) as gateway:
        statuses = {
            path: (await gateway.client.get(path)).status_code
            for path in ("/health", "/health/live", "/health/ready")
        }
        assert statuses == {"/health": 503, "/health/live": 200, "/health/ready": 503}
        health = (await gateway.client.get("/health")).json()
        assert (health["status"], health["engines"][0]["error"]) == (
            "unhealthy",
            "connection refused",
        )


async def test_new_model(start_gateway: StartGateway) -> None:
    """A model that an engine starts to serve is found by the next health check."""
    engine = FakeMax(models=[])
    upstream = {"probe_interval": 0.01}
    async with start_gateway(engine, upstream=upstream) as gateway:
        assert (await gateway.chat(model="smollm2")).status_code == 404
        engine.models = ["smollm2-135m-instruct"]

        async def is_listed() -> bool:
            return bool((await gateway.client.get("/health")).json()["models"])

        await until(is_listed)
        assert (await gateway.chat(model="smollm2")).status_code == 200


async def test_metrics_formats(gateway: Gateway) -> None:
    """Metrics are JSON by default, and text if Prometheus accepts it."""
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


async def test_metrics_buckets(gateway: Gateway) -> None:
    """`?buckets=true` adds histogram buckets to the JSON."""
    await gateway.chat()
    plain = (await gateway.client.get("/metrics")).json()["models"]
    full = (await gateway.client.get("/metrics?buckets=true")).json()["models"]
    latency = full["smollm2-135m-instruct"]["latency_seconds"]
    assert [count for _, _, count in latency.pop("buckets")] == [1]
    assert latency == plain["smollm2-135m-instruct"]["latency_seconds"]


async def test_unknown_names(gateway: Gateway) -> None:
    """Unknown models and paths create no metric series."""
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
async def test_not_found(gateway: Gateway, method: str, path: str, status: int, code: str) -> None:
    """Unknown paths, models and methods give errors in OpenAI's shape."""
    response = await gateway.client.request(method, gateway.url + path)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (
        status,
        code,
        "invalid_request_error",
    )
    assert error.keys() == {"message", "type", "param", "code"}


async def test_allow_header(gateway: Gateway) -> None:
    """A 405 response lists the allowed methods."""
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
async def test_invalid_http(gateway: Gateway, sent: bytes) -> None:
    """Bytes that are not HTTP get a 400 in OpenAI's shape."""
    head, body = await send_bytes(gateway.url, sent)
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
async def test_slow_request(sent: bytes) -> None:
    """A request that does not arrive in time gets 408, whichever part is missing."""
    app = create_app(Settings(engines=["http://127.0.0.1:9"]))
    async with serving(app, request_read_timeout=0.05) as url:
        head, body = await send_bytes(url, sent)
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert json.loads(body)["error"]["code"] == "request_timeout"


async def test_idle_connection() -> None:
    """The read timeout does not apply to an idle connection between requests."""
    app = create_app(Settings(engines=["http://127.0.0.1:9"]))
    async with (
        serving(app, request_read_timeout=0.05) as url,
        httpx.AsyncClient(base_url=url, verify=TLS) as client,
    ):
        before = await get_client_address(client)
        assert (await send_bytes(url, b""))[0].startswith(b"HTTP/1.1 408")  # the timeout is over
        assert await get_client_address(client) == before


async def get_client_address(client: httpx.AsyncClient) -> object:
    """Send a request and return the address and port that it came from."""
    response = await client.get("/health/live")
    assert response.status_code == 200
    return response.extensions["network_stream"].get_extra_info("client_addr")


async def test_body_limit(start_gateway: StartGateway) -> None:
    """A body over the limit gets 413, with and without Content-Length."""
    async with start_gateway(server={"max_body_bytes": 1000}) as gateway:
        response = await gateway.chat(user="x" * 1000)

        async def pieces():
            for _ in range(50):
                yield b" " * 100

        chunked = await gateway.client.post("/v1/chat/completions", content=pieces())
    for rejected in (response, chunked):
        assert (rejected.status_code, rejected.json()["error"]["code"]) == (
            413,
            "request_too_large",
        )


@pytest.mark.parametrize(
    ("given", "kept"),
    [("my-id_1.2:3", True), ("x" * 129, False), ("a b", False), ("a\\r\\nset-cookie", False)],
)
async def test_request_id(gateway: Gateway, given: str, *, kept: bool) -> None:
    """A plain request ID is returned, and any other is replaced."""
    response = await gateway.client.get("/v1/models", headers={"x-request-id": given})
    returned = response.headers["x-request-id"]
    assert (returned == given) if kept else returned.startswith("req_")


async def test_openapi(gateway: Gateway) -> None:
    """The OpenAPI document has every route, its content types and no 422."""
    schema = (await gateway.client.get("/openapi.json")).json()
    assert {(path, method) for path, item in schema["paths"].items() for method in item} == {
        ("/v1/chat/completions", "post"),
        ("/v1/completions", "post"),
        ("/v1/embeddings", "post"),
        ("/v1/moderations", "post"),
        ("/v1/models", "get"),
        ("/v1/models", "post"),
        ("/v1/models/{model}", "get"),
        ("/health", "get"),
        ("/health/live", "get"),
        ("/health/ready", "get"),
        ("/auth", "get"),
        ("/metrics", "get"),
        ("/metrics/vllm", "get"),
        ("/v1/organization/admin_api_keys", "get"),
        ("/v1/organization/admin_api_keys", "post"),
        ("/v1/organization/admin_api_keys/{key_id}", "delete"),
        ("/v1/organization/admin_api_keys/{key_id}", "get"),
        ("/v1/organization/audit_logs", "get"),
        ("/v1/organization/costs", "get"),
        ("/v1/organization/projects", "get"),
        ("/v1/organization/projects", "post"),
        ("/v1/organization/projects/{project_id}", "get"),
        ("/v1/organization/projects/{project_id}", "post"),
        ("/v1/organization/projects/{project_id}/api_keys", "get"),
        ("/v1/organization/projects/{project_id}/api_keys/{api_key_id}", "delete"),
        ("/v1/organization/projects/{project_id}/api_keys/{api_key_id}", "get"),
        ("/v1/organization/projects/{project_id}/api_keys/{api_key_id}", "post"),
        ("/v1/organization/projects/{project_id}/api_keys/{api_key_id}/rotate", "post"),
        ("/v1/organization/projects/{project_id}/archive", "post"),
        ("/v1/organization/projects/{project_id}/model_permissions", "delete"),
        ("/v1/organization/projects/{project_id}/model_permissions", "get"),
        ("/v1/organization/projects/{project_id}/model_permissions", "post"),
        ("/v1/organization/projects/{project_id}/service_accounts", "get"),
        ("/v1/organization/projects/{project_id}/service_accounts", "post"),
        ("/v1/organization/projects/{project_id}/service_accounts/{service_account_id}", "delete"),
        ("/v1/organization/projects/{project_id}/service_accounts/{service_account_id}", "get"),
        ("/v1/organization/projects/{project_id}/service_accounts/{service_account_id}", "post"),
        (
            "/v1/organization/projects/{project_id}/service_accounts/{service_account_id}/api_keys",
            "post",
        ),
        ("/v1/organization/projects/{project_id}/rate_limits", "get"),
        ("/v1/organization/projects/{project_id}/rate_limits/{rate_limit_id}", "delete"),
        ("/v1/organization/projects/{project_id}/rate_limits/{rate_limit_id}", "get"),
        ("/v1/organization/projects/{project_id}/rate_limits/{rate_limit_id}", "post"),
        ("/v1/organization/projects/{project_id}/spend_alerts", "get"),
        ("/v1/organization/projects/{project_id}/spend_alerts", "post"),
        ("/v1/organization/projects/{project_id}/spend_alerts/{alert_id}", "delete"),
        ("/v1/organization/projects/{project_id}/spend_alerts/{alert_id}", "get"),
        ("/v1/organization/projects/{project_id}/spend_alerts/{alert_id}", "post"),
        ("/v1/organization/projects/{project_id}/spend_limit", "delete"),
        ("/v1/organization/projects/{project_id}/spend_limit", "get"),
        ("/v1/organization/projects/{project_id}/spend_limit", "post"),
        ("/v1/organization/spend_alerts", "get"),
        ("/v1/organization/spend_alerts", "post"),
        ("/v1/organization/spend_alerts/{alert_id}", "delete"),
        ("/v1/organization/spend_alerts/{alert_id}", "get"),
        ("/v1/organization/spend_alerts/{alert_id}", "post"),
        ("/v1/organization/spend_limit", "delete"),
        ("/v1/organization/spend_limit", "get"),
        ("/v1/organization/spend_limit", "post"),
        ("/v1/organization/projects/{project_id}/users", "get"),
        ("/v1/organization/projects/{project_id}/users", "post"),
        ("/v1/organization/projects/{project_id}/users/{user_id}", "delete"),
        ("/v1/organization/projects/{project_id}/users/{user_id}", "get"),
        ("/v1/organization/projects/{project_id}/users/{user_id}", "post"),
        ("/v1/organization/usage/completions", "get"),
        ("/v1/organization/usage/embeddings", "get"),
        ("/v1/organization/usage/moderations", "get"),
        ("/v1/organization/users", "get"),
        ("/v1/organization/users/{user_id}", "delete"),
        ("/v1/organization/users/{user_id}", "get"),
        ("/v1/organization/users/{user_id}", "post"),
        ("/key/block", "post"),
        ("/key/delete", "post"),
        ("/key/generate", "post"),
        ("/key/info", "get"),
        ("/key/regenerate", "post"),
        ("/key/unblock", "post"),
        ("/key/update", "post"),
        ("/key/{key}/regenerate", "post"),
        ("/spend/logs", "get"),
        ("/admin/engines", "get"),
        ("/admin/engines", "post"),
        ("/admin/engines/{engine_id}", "get"),
        ("/admin/engines/{engine_id}", "patch"),
        ("/admin/engines/{engine_id}", "delete"),
        ("/admin/reload", "post"),
        ("/admin/canary", "get"),
        ("/admin/canary", "post"),
        ("/admin/canary", "delete"),
        ("/admin/models/swap", "get"),
        ("/admin/models/swap", "post"),
        ("/running", "get"),
        ("/api/models/unload", "post"),
        ("/api/models/unload/{model}", "post"),
    }
    assert "422" not in str(schema)
    kinds = {
        path: set(operation["responses"][min(operation["responses"])].get("content", ()))
        - {"application/json"}
        for path, item in schema["paths"].items()
        for operation in item.values()
    }
    assert {path: kind for path, kind in kinds.items() if kind} == {
        "/v1/chat/completions": {"text/event-stream"},
        "/v1/completions": {"text/event-stream"},
        "/metrics": {"text/plain", "application/openmetrics-text"},
        "/metrics/vllm": {"text/plain"},
    }
    assert (await gateway.client.get("/docs")).status_code == 200


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
        "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",  # Prometheus 2.42
        "application/openmetrics-text;version=1.0.0;escaping=underscores",
        "application/openmetrics-text;version=1.0.0;escaping=dots",
        "text/plain;version=1.0.0;escaping=values",
    ],
)
async def test_metric_names(gateway: Gateway, accept: str | None) -> None:
    """The names of vLLM keep their colon for every `Accept`, as its recipes need them."""
    headers = {} if accept is None else {"accept": accept}
    response = await gateway.client.get("/metrics/vllm", headers=headers)
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert lines
    assert [line for line in lines if not line.startswith("vllm:")] == []


def test_own_metric_names() -> None:
    """The gateway's names have no character that a format of Prometheus escapes."""
    assert [one.name for one in METRICS if re.fullmatch("[a-z][a-z0-9_]*", one.name) is None] == []


async def test_no_delay(gateway: Gateway) -> None:
    """Small responses are sent at once; Nagle's algorithm would delay each by 40 ms."""
    responses = [await gateway.client.get("/v1/models") for _ in range(10)]
    assert min(response.elapsed for response in responses) < timedelta(milliseconds=30)


class FailingTransport(httpx.ASGITransport):
    """A transport to a fake MAX that raises `error`, if set, instead of sending a POST."""

    error: Exception | None = None

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.error is not None and request.method == "POST":
            raise self.error
        return await super().handle_async_request(request)


@pytest.mark.parametrize("stream", [False, True])
async def test_bug(*, stream: bool) -> None:
    """A bug is a 500 that reveals nothing, streamed or not."""
    transport = FailingTransport(FakeMax())
    settings = Settings(engines=["http://engine"], cards=[SMALL_CARD])
    async with (
        serving(create_app(settings, transport=transport)) as url,
        httpx.AsyncClient(base_url=url, verify=TLS) as client,
    ):
        transport.error = RuntimeError("secret /root/path")
        body = {"messages": [{"role": "user", "content": "Hello"}], "stream": stream}
        response = await client.post("/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in response.text


async def test_large_body(gateway: Gateway) -> None:
    """A body larger than the header limit is validated like a small one."""
    body = {"messages": [{"role": "user", "content": "Hello"}], "user": "u" * 600}
    for padding in (0, 300_000):
        content = json.dumps(body).encode() + b" " * padding
        response = await gateway.client.post(
            "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )
        assert response.json()["error"]["param"] == "user"


async def test_read_only_docs(gateway: Gateway) -> None:
    """POST on the documentation is not allowed."""
    for path in ("/docs", "/openapi.json"):
        response = await gateway.client.post(path)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (405, "method_not_supported")
