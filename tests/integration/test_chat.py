"""POST /v1/chat/completions over plain HTTP."""

from typing import Any

import pytest
import structlog

from tests.fakes.gateway import Gateway, StartGateway
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax, Script
from tests.fakes.sse import join_content, read_events


async def test_response(gateway: Gateway) -> None:
    """A response has all of OpenAI's fields."""
    response = await gateway.chat(model="smollm2", max_tokens=20)
    assert response.headers["content-type"] == "application/json"
    completion = response.json()
    assert completion.pop("id").startswith("chatcmpl-")
    assert isinstance(completion.pop("created"), int)
    assert completion == {
        "object": "chat.completion",
        "model": "smollm2-135m-instruct",
        "service_tier": "default",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "".join(OUTPUT_TOKENS),
                    "refusal": None,
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 37,
            "completion_tokens": 8,
            "total_tokens": 45,
            "prompt_tokens_details": {"cached_tokens": 5},
        },
    }


async def test_stream(gateway: Gateway) -> None:
    """A stream has the role, one chunk per token, the finish reason and [DONE]."""
    response = await gateway.chat(stream=True)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, done = read_events(response.text)
    assert done == "[DONE]"
    assert len({(c["id"], c["created"], c["model"], c["object"]) for c in chunks}) == 1
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [(c["delta"], c["finish_reason"]) for c in choices] == [
        ({"role": "assistant", "content": "", "refusal": None}, None),
        *(({"content": token}, None) for token in OUTPUT_TOKENS),
        ({}, "stop"),
    ]
    assert not any("usage" in chunk for chunk in chunks)


@pytest.mark.parametrize(
    ("fields", "used"),
    [
        ({"service_tier": None}, "default"),
        ({"service_tier": "auto"}, "default"),
        ({"service_tier": "flex"}, "flex"),
        ({"service_tier": "fast"}, "priority"),
    ],
)
async def test_service_tier(gateway: Gateway, fields: dict[str, Any], used: str) -> None:
    """The response and every chunk have the tier that was used; the engine gets none."""
    response = await gateway.chat(**fields)
    *chunks, _ = read_events((await gateway.chat(**fields, stream=True)).text)
    assert {response.json()["service_tier"], *(chunk["service_tier"] for chunk in chunks)} == {used}
    assert not any("service_tier" in request for request in gateway.engine.requests)


@pytest.mark.parametrize("stream", [True, False])
async def test_queue_header(start_gateway: StartGateway, *, stream: bool) -> None:
    """Responses and errors of engines have the time in the queue, invalid requests have not."""
    async with start_gateway(FakeMax(scripts=[Script(), Script(status=500)])) as gateway:
        completed = await gateway.chat(stream=stream)
        failed = await gateway.chat(stream=stream)
        invalid = await gateway.chat(stream=stream, n=0)
    assert [response.status_code for response in (completed, failed, invalid)] == [200, 502, 400]
    times = [r.headers.get("x-maxgate-queue-ms") for r in (completed, failed, invalid)]
    assert times == ["0", "0", None]


async def test_callers_stay_private(
    start_gateway: StartGateway, capfd: pytest.CaptureFixture[str]
) -> None:
    """The values that identify a caller are in no log line, metric or request to an engine."""
    structlog.reset_defaults()  # other tests let it write elsewhere
    async with start_gateway() as gateway:
        gateway.client.headers["authorization"] = "Bearer sk-private"
        assert (await gateway.chat(user="private-ann", service_tier="flex")).status_code == 200
        assert (await gateway.chat(user="private-ann", n=0)).status_code == 400
        metrics = await gateway.client.get("/metrics", headers={"accept": "text/plain"})
        log = "".join(capfd.readouterr())
        assert "request completed" in log
        assert "private" not in f"{log}{metrics.text}{gateway.engine.requests}"


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
async def test_unknown_service_tier(gateway: Gateway, path: str) -> None:
    """Other tiers are rejected with the list of valid ones."""
    response = await gateway.client.post(
        f"/v1/{path}", json={"messages": [], "prompt": "a", "service_tier": "scale"}
    )
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (
        400,
        "service_tier",
        "invalid_value",
    )
    assert error["message"] == (
        "Invalid value for 'service_tier': expected one of 'auto', 'default', 'fast', 'flex' or "
        "'priority'."
    )


async def test_stream_usage(gateway: Gateway) -> None:
    """With `include_usage` the last chunk has the usage, and all others null."""
    response = await gateway.chat(stream=True, stream_options={"include_usage": True})
    *chunks, last, done = read_events(response.text)
    assert done == "[DONE]"
    assert {chunk["usage"] for chunk in chunks} == {None}
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 45)


async def test_engine_request(gateway: Gateway) -> None:
    """The engine gets token ids and sampling parameters, and nothing about the user."""
    await gateway.chat(
        temperature=0, seed=0, max_completion_tokens=5, user="u", metadata={"a": "b"}
    )
    [sent] = gateway.engine.requests
    assert gateway.engine.paths == ["/v1/completions"]
    prompt = sent.pop("prompt")
    assert prompt[0] == 1
    assert sent == {
        "model": "smollm2-135m-instruct",
        "temperature": 0.0,
        "top_p": 0.9,
        "stop_token_ids": [2],
        "max_tokens": 5,
        "seed": 0x5EED,
    }


async def test_model_without_card(
    start_gateway: StartGateway,
) -> None:
    """Messages of a model without a card are passed to the engine unchanged."""
    async with start_gateway(FakeMax(models=["stranger"])) as gateway:
        response = await gateway.chat(model="stranger", stream=True)
    assert join_content(read_events(response.text)) == "".join(OUTPUT_TOKENS)
    assert gateway.engine.paths == ["/v1/chat/completions"]
    assert gateway.engine.requests[0]["messages"] == [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("stream", [True, False])
async def test_stop_string(gateway: Gateway, *, stream: bool) -> None:
    """The output ends before the stop string."""
    options = {"stream_options": {"include_usage": True}} if stream else {}
    response = await gateway.chat(stop=["France is P", "nothing"], stream=stream, **options)
    if stream:
        *chunks, last, _ = read_events(response.text)
        text, usage = join_content(chunks), last["usage"]
        reason = chunks[-1]["choices"][0]["finish_reason"]
    else:
        choice, usage = response.json()["choices"][0], response.json()["usage"]
        text, reason = choice["message"]["content"], choice["finish_reason"]
    assert (text, reason) == ("The capital of ", "stop")
    assert usage["completion_tokens"] == 6
    await gateway.engine.idle.wait()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (Script(cut_after=3), "The capital of"),
        (Script(error_after=3), "The capital of"),
        (Script(cut_after=6), "The capital of France is Paris"),
    ],
)
async def test_stream_cut_off(start_gateway: StartGateway, script: Script, text: str) -> None:
    """A stream that the engine breaks off, and again where it goes on, ends with an error event."""
    async with start_gateway(FakeMax(scripts=[script] * 3)) as gateway:
        *chunks, last = read_events((await gateway.chat(stream=True)).text)
        metrics = (await gateway.client.get("/metrics")).json()
    assert join_content(chunks) == text
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * len(chunks)
    assert last["error"]["type"] == "server_error"
    assert last["error"].keys() == {"message", "type", "param", "code"}
    assert metrics["requests"]["by_outcome"] == {"truncated": 1}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (Script(status=500, error=b"<html>"), 502, "upstream_error"),
        (Script(status=429), 503, "server_is_overloaded"),
        (Script(status=400), 400, "invalid_value"),
    ],
)
async def test_engine_error(
    start_gateway: StartGateway, script: Script, status: int, code: str, *, stream: bool
) -> None:
    """An error before the first token has its own status, streamed or not."""
    async with start_gateway(FakeMax(scripts=[script])) as gateway:
        response = await gateway.chat(stream=stream)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert ("retry-after" in response.headers) == (status == 503)


@pytest.mark.parametrize("stream", [True, False])
async def test_timeout(start_gateway: StartGateway, *, stream: bool) -> None:
    """A silent engine gives 504."""
    engine = FakeMax(scripts=[Script(silent_after=0)])
    upstream = {"first_token_timeout": 0.05, "response_timeout": 0.05}
    async with start_gateway(engine, upstream=upstream) as gateway:
        response = await gateway.chat(stream=stream)
        await engine.idle.wait()
    assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")


async def test_no_engine(start_gateway: StartGateway) -> None:
    """Without an engine the response is 503 with `Retry-After`."""
    async with start_gateway(engines=["http://127.0.0.1:9"]) as gateway:
        for fields in ({}, {"model": "smollm2"}, {"stream": True}):
            response = await gateway.chat(**fields)
            assert response.status_code == 503
            assert response.headers["retry-after"] == "2"
            assert response.json()["error"]["code"] == "upstream_unavailable"


async def test_keep_alive(start_gateway: StartGateway) -> None:
    """Comments keep a silent stream alive, and a disconnect ends the engine's request."""
    engine = FakeMax(scripts=[Script(silent_after=3)])
    async with start_gateway(engine, server={"keep_alive_interval": 0.02}) as gateway:
        body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
        async with gateway.client.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = []
            async for line in response.aiter_lines():
                lines.append(line)
                if lines.count(": keep-alive") == 2:
                    break
        await engine.idle.wait()
    assert join_content(read_events("\n".join(lines) + "\n")) == "The capital of"
    assert engine.aborted == 1


async def test_error_after_keep_alive(start_gateway: StartGateway) -> None:
    """An error after the first comment is an event, because the status has been sent."""
    engine = FakeMax(scripts=[Script(silent_after=0)])
    settings = {"server": {"keep_alive_interval": 0.02}, "upstream": {"first_token_timeout": 0.1}}
    async with start_gateway(engine, **settings) as gateway:
        response = await gateway.chat(stream=True)
    assert (response.status_code, response.text[:14]) == (200, ": keep-alive\n\n")
    [last] = read_events(response.text)
    assert last["error"]["code"] == "upstream_timeout"


@pytest.mark.parametrize(
    ("fields", "status", "param", "code"),
    [
        ({"model": "gpt-4"}, 404, "model", "model_not_found"),
        ({"model": ""}, 404, "model", "model_not_found"),
        ({"max_tokens": 9000}, 400, "messages", "context_length_exceeded"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, 400, "messages",
         "context_length_exceeded"),
        ({"n": 129}, 400, "n", "integer_above_max_value"),
        ({"logit_bias": {"1": 1}}, 400, "logit_bias", "unsupported_parameter"),
    ],
)  # fmt: skip
async def test_invalid_requests(
    gateway: Gateway, fields: dict[str, Any], status: int, param: str, code: str
) -> None:
    """Invalid requests are rejected without a request to the engine."""
    response = await gateway.chat(**fields)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (status, param, code)
    assert gateway.engine.requests == []
