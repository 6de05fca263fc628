"""The spans of requests, and the trace context that clients send and engines get."""

import asyncio
import re
from typing import Any

import pytest

from tests.fakes.gateway import EMBEDDING_CARD, EMBEDDING_MODEL, SMALL_CARD, start
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.server import serving
from tests.fakes.traces import CollectedSpans, describe
from tests.fakes.waiting import until
from tests.integration.test_disconnect import disconnect

MODEL = "smollm2-135m-instruct"
ON = {"tracing": {"enabled": True}}
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PROMPT = {"name": "encode the prompt", "kind": "INTERNAL", "status": "UNSET"}
REQUEST = {
    "http.request.method": "POST",
    "http.route": "/v1/chat/completions",
    "maxgate.outcome": "ok",
    "maxgate.request.id": "*",
    "http.response.status_code": 200,
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "modular",
    "gen_ai.request.model": MODEL,
    "gen_ai.response.model": MODEL,
    "gen_ai.usage.input_tokens": 37,
    "gen_ai.request.stream": False,
    "gen_ai.usage.output_tokens": 8,
    "gen_ai.usage.cache_read.input_tokens": 5,
    "gen_ai.request.temperature": 0.2,
    "gen_ai.request.top_p": 0.9,
    "gen_ai.output.type": "text",
    "gen_ai.response.finish_reasons": ["stop"],
}
ATTEMPT = {
    "http.request.method": "POST",
    "url.full": "*",
    "server.address": "127.0.0.1",
    "server.port": "*",
    "gen_ai.request.model": MODEL,
    "maxgate.attempt.reason": "call",
    "http.response.status_code": 200,
}
FIRST_CHUNK = {"gen_ai.response.time_to_first_chunk": "*"}


def build_attempt(*, status: str = "UNSET", path: str = "/v1/completions", **changes: Any) -> Any:
    """Return the description of an attempt; changes to None remove an attribute."""
    attributes = {**ATTEMPT, **changes}
    kept = {name: value for name, value in attributes.items() if value is not None}
    return {"name": f"POST {path}", "kind": "CLIENT", "status": status, "attributes": kept}


def build_request(*children: Any, status: str = "UNSET", **changes: Any) -> Any:
    """Return the description of a chat request."""
    attributes = {**REQUEST, **changes}
    kept = {name: value for name, value in attributes.items() if value is not None}
    found = {"name": f"chat {MODEL}", "kind": "SERVER", "status": status, "attributes": kept}
    return {**found, "children": list(children)}


async def test_chat() -> None:
    """A chat request has a server span, and spans of the prompt and the engine call."""
    spans = CollectedSpans()
    async with start(span_processor=spans.processor, **ON) as gateway:
        await gateway.chat()
        assert describe(await spans.wait()) == build_request(PROMPT, build_attempt())


async def test_stream() -> None:
    """Spans of a stream have the time to the first chunk."""
    spans = CollectedSpans()
    async with start(span_processor=spans.processor, **ON) as gateway:
        await gateway.chat(stream=True, temperature=0, seed=3, max_tokens=100)
        found = describe(await spans.wait())
    sampling = {
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.seed": 3,
        "gen_ai.request.max_tokens": 100,
    }
    attempt = build_attempt(**FIRST_CHUNK)
    assert found == build_request(PROMPT, attempt, **FIRST_CHUNK, **sampling)


async def test_retry() -> None:
    """Each attempt has a span: one that fails, and the retry."""
    scripts, spans = [Script(status=500), Script()], CollectedSpans()
    engines = FakeMax(scripts=scripts), FakeMax(scripts=scripts)
    async with (
        serving(engines[0]) as first,
        serving(engines[1]) as second,
        start(engines=[first, second], span_processor=spans.processor, **ON) as gateway,
    ):
        await gateway.chat()
        found = describe(await spans.wait())
    failed = build_attempt(
        status="ERROR", **{"http.response.status_code": 500, "error.type": "upstream_error"}
    )
    retry = build_attempt(**{"maxgate.attempt.reason": "retry", "http.request.resend_count": 1})
    assert found == build_request(PROMPT, failed, retry)


async def test_continuation() -> None:
    """A stream whose engine fails has a span of the attempt that goes on."""
    scripts, spans = [Script(cut_after=3), Script()], CollectedSpans()
    engines = FakeMax(scripts=scripts), FakeMax(scripts=scripts)
    async with (
        serving(engines[0]) as first,
        serving(engines[1]) as second,
        start(engines=[first, second], span_processor=spans.processor, **ON) as gateway,
    ):
        await gateway.chat(stream=True)
        attempts = describe(await spans.wait())["children"][1:]
    assert attempts == [
        build_attempt(status="ERROR", **{"error.type": "upstream_error"}, **FIRST_CHUNK),
        build_attempt(
            **{"maxgate.attempt.reason": "continuation", "http.request.resend_count": 1},
            **FIRST_CHUNK,
        ),
    ]


async def test_refusal() -> None:
    """A request that the gateway refuses has no other spans, and an error type."""
    spans = CollectedSpans()
    async with start(span_processor=spans.processor, **ON) as gateway:
        await gateway.chat(model="unknown")
        found = describe(await spans.wait())
    assert found == {
        "name": "POST /v1/chat/completions",
        "kind": "SERVER",
        "status": "UNSET",
        "attributes": {
            "http.request.method": "POST",
            "http.route": "/v1/chat/completions",
            "maxgate.outcome": "client_error",
            "maxgate.request.id": "*",
            "http.response.status_code": 404,
            "error.type": "model_not_found",
        },
        "children": [],
    }


async def test_failed_engine() -> None:
    """A request whose engine fails is an error."""
    spans = CollectedSpans()
    engine = FakeMax(default=Script(status=400, error=b'{"error":{"code":"content_filter"}}'))
    async with start(engine, span_processor=spans.processor, **ON) as gateway:
        response = await gateway.chat()
        found = describe(await spans.wait())
    assert found["attributes"]["http.response.status_code"] == response.status_code
    assert found["children"][1]["attributes"]["error.type"] == response.json()["error"]["code"]


async def test_cancel() -> None:
    """Spans end when the client disconnects, and say so."""
    spans, engine = CollectedSpans(), FakeMax(scripts=[Script(silent_after=3)])
    async with start(engine, span_processor=spans.processor, **ON) as gateway:
        await disconnect(gateway, stream=True, after=3)
        found = describe(await spans.wait())
    changes = {
        "maxgate.outcome": "client_gone",
        "error.type": "client_gone",
        "gen_ai.request.stream": True,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.response.finish_reasons": None,
    }
    attempt = build_attempt(**{"error.type": "cancelled"}, **FIRST_CHUNK)
    usage = {
        name: found["attributes"].get(name)
        for name in ("gen_ai.usage.input_tokens", "gen_ai.usage.cache_read.input_tokens")
    }
    assert found == build_request(PROMPT, attempt, **changes, **usage, **FIRST_CHUNK)


async def test_queue() -> None:
    """A request that waits for a slot has a span of its wait."""
    begins = asyncio.Event()
    spans, engine = CollectedSpans(), FakeMax(default=Script(begins=begins))
    settings = {"admission": {"slots": 1}, **ON}
    async with start(engine, span_processor=spans.processor, **settings) as gateway:
        requests = [asyncio.create_task(gateway.chat()) for _ in range(3)]

        async def is_waiting() -> bool:
            metrics = await gateway.client.get("/metrics", headers={"accept": "text/plain"})
            return f'maxgate_queue_length{{class="default",model="{MODEL}"}} 1' in metrics.text

        await until(is_waiting)
        begins.set()
        await asyncio.gather(*requests)
        found = await spans.wait()
    [wait] = [span for span in found if span.name == "wait in the queue"]
    own = [span for span in found if span.context.trace_id == wait.context.trace_id]
    queue = {"name": "wait in the queue", "kind": "INTERNAL", "status": "UNSET"}
    assert describe(own) == build_request(PROMPT, queue, build_attempt())


async def test_embeddings() -> None:
    """Embeddings have their own operation, and no finish reason."""
    spans = CollectedSpans()
    engine = FakeMax(models=[EMBEDDING_MODEL], context_length=256)
    cards = [SMALL_CARD, EMBEDDING_CARD]
    async with start(engine, cards=cards, span_processor=spans.processor, **ON) as gateway:
        await gateway.embed(["Hello"])
        found = describe(await spans.wait())
    call = {"path": "/v1/embeddings", "gen_ai.request.model": EMBEDDING_MODEL}
    assert found == {
        "name": f"embeddings {EMBEDDING_MODEL}",
        "kind": "SERVER",
        "status": "UNSET",
        "attributes": {
            "http.request.method": "POST",
            "http.route": "/v1/embeddings",
            "maxgate.outcome": "ok",
            "maxgate.request.id": "*",
            "http.response.status_code": 200,
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": "modular",
            "gen_ai.request.model": EMBEDDING_MODEL,
            "gen_ai.response.model": EMBEDDING_MODEL,
            "gen_ai.usage.input_tokens": 3,
        },
        "children": [PROMPT, build_attempt(**call)],
    }


async def test_context_of_the_client() -> None:
    """The trace of the client goes on in the gateway and in the engine."""
    spans, engine = CollectedSpans(), FakeMax()
    headers = {"traceparent": PARENT, "tracestate": "vendor=1", "x-request-id": "own-id"}
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    async with start(engine, span_processor=spans.processor, **ON) as gateway:
        await gateway.client.post("/v1/chat/completions", json=body, headers=headers)
        found = await spans.wait()
    [root] = [span for span in found if span.kind.name == "SERVER"]
    [attempt] = [span for span in found if span.kind.name == "CLIENT"]
    assert f"{root.context.trace_id:032x}" == PARENT[3:35]
    assert f"{root.parent.span_id:016x}" == PARENT[36:52]
    sent = {name: engine.headers[0].get(name) for name in headers}
    own = f"00-{PARENT[3:35]}-{attempt.context.span_id:016x}-01"
    assert sent == {"traceparent": own, "tracestate": "vendor=1", "x-request-id": "own-id"}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "hello",
        PARENT.upper(),
        PARENT.replace("00-4", "ff-4"),
        f"{PARENT}-more",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        f"{PARENT}, {PARENT}",
    ],
)
async def test_malformed_context(parent: str) -> None:
    """A malformed context is ignored, and a new trace begins."""
    spans, engine = CollectedSpans(), FakeMax()
    headers = {"traceparent": parent, "tracestate": "vendor=1"}
    async with start(engine, span_processor=spans.processor, **ON) as gateway:
        response = await gateway.client.get("/v1/models", headers=headers)
        [span] = await spans.wait()
    assert (response.status_code, span.parent) == (200, None)
    assert f"{span.context.trace_id:032x}" != PARENT[3:35]


async def test_trace_that_is_not_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sampling, ids are passed on and no spans are made; the sampler is the standard's."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    spans, engine = CollectedSpans(), FakeMax()
    async with start(engine, span_processor=spans.processor, **ON) as gateway:
        await gateway.chat()
        await gateway.client.get("/v1/models", headers={"traceparent": PARENT})
        found = await spans.wait()
    assert [span.name for span in found] == ["GET /v1/models"]
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", engine.headers[0]["traceparent"])


async def test_no_text() -> None:
    """Spans have no text of prompts and responses, unless it is allowed."""
    spans, found = CollectedSpans(), []
    for capture in (False, True):
        spans.clear()
        settings = {"tracing": {"enabled": True, "capture_content": capture}}
        async with start(span_processor=spans.processor, **settings) as gateway:
            await gateway.chat(stream=True, stop=["stop here"], user="somebody")
            found.append(await spans.wait())
        spans = CollectedSpans()
    plain = "".join(span.to_json() for span in found[0])
    assert [word for word in ("Hello", "Paris", "stop here", "somebody") if word in plain] == []
    [root] = [span for span in found[1] if span.kind.name == "SERVER"]
    assert root.attributes["gen_ai.input.messages"] == (
        '[{"role":"user","parts":[{"type":"text","content":"Hello"}]}]'
    )
    assert root.attributes["gen_ai.output.messages"] == (
        '[{"role":"assistant","parts":[{"type":"text","content":"The capital of France is Paris."}'
        '],"finish_reason":"stop"}]'
    )


async def test_off() -> None:
    """Without the setting, engines get no trace context, and that of the client is ignored."""
    engine = FakeMax()
    async with start(engine) as gateway:
        await gateway.client.post(
            "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "Hello"}]},
            headers={"traceparent": PARENT},
        )
    assert "traceparent" not in engine.headers[0]


async def test_exemplars() -> None:
    """OpenMetrics text links the buckets of latencies to the trace of a request."""
    spans = CollectedSpans()
    async with start(span_processor=spans.processor, **ON) as gateway:
        await gateway.chat(stream=True)
        [root] = [span for span in await spans.wait() if span.kind.name == "SERVER"]
        accept = {"accept": "application/openmetrics-text"}
        text = (await gateway.client.get("/metrics", headers=accept)).text
        plain = (await gateway.client.get("/metrics", headers={"accept": "text/plain"})).text
    lines = [line for line in text.splitlines() if " # {" in line]
    assert {line.partition("{")[0] for line in lines} == {
        "maxgate_request_duration_seconds_bucket",
        "maxgate_time_to_first_token_seconds_bucket",
        "maxgate_time_per_output_token_seconds_bucket",
        "maxgate_queue_duration_seconds_bucket",
    }
    for line in lines:
        found = re.search(r'le="(.+?)".* # {trace_id="(.+?)"} (\S+) \S+$', line)
        assert found is not None
        assert found[2] == f"{root.context.trace_id:032x}"
        assert float(found[3]) <= float(found[1])
    assert " # {" not in plain
