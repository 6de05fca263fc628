"""Strict tools over HTTP: clients get calls that match the schema, or an error."""

import json
from typing import Any

import httpx
import pytest

from maxgate.prompts.tokenizer import PromptTokenizer
from tests.fakes.gateway import Gateway, StartGateway
from tests.fakes.max_server import FakeMax, Script

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


def tool(*, strict: bool, parameters: dict[str, Any] = PARAMETERS) -> dict[str, Any]:
    function = {"name": "forecast", "parameters": parameters, "strict": strict}
    return {"type": "function", "function": function}


def call(arguments: str, before: str = "", finish_reason: str = "stop") -> Script:
    tokens = (before, f'{{"name": "forecast", "parameters": {arguments}', "}")
    return Script(tokens=[token for token in tokens if token], finish_reason=finish_reason)


COMPLETE = call('{"city": "Rome", "days": 2}')
INCOMPLETE = call('{"city": "Rome"}')


async def read_arguments(response: httpx.Response, *, stream: bool) -> str:
    """Return the arguments of the only call."""
    if not stream:
        [called] = response.json()["choices"][0]["message"]["tool_calls"]
        return str(called["function"]["arguments"])
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line[:7] == "data: {"]
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    called = [c for delta in deltas for c in delta.get("tool_calls", ())]
    assert {c["index"] for c in called} == {0}
    return "".join(c["function"]["arguments"] for c in called)


@pytest.mark.parametrize("stream", [False, True])
async def test_retry(start_gateway: StartGateway, stream: bool) -> None:
    """A call that lacks a required argument is retried with another seed."""
    engine = FakeMax(scripts=[INCOMPLETE, COMPLETE])
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(tools=[tool(strict=True)], stream=stream, seed=5)
    assert await read_arguments(response, stream=stream) == '{"city": "Rome", "days": 2}'
    assert [request["seed"] for request in engine.requests] == [5, 6]


async def test_not_strict(start_gateway: StartGateway) -> None:
    """Calls of other tools are returned as the model wrote them."""
    engine = FakeMax(scripts=[INCOMPLETE])
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(tools=[tool(strict=False)])
    assert await read_arguments(response, stream=False) == '{"city": "Rome"}'


async def test_usage(start_gateway: StartGateway) -> None:
    """Usage counts the tokens of all attempts, and the prompt once."""
    engine = FakeMax(scripts=[INCOMPLETE, COMPLETE])
    async with start_gateway(engine) as gateway:
        twice = (await gateway.chat(tools=[tool(strict=True)])).json()["usage"]
        engine.scripts = [COMPLETE]
        once = (await gateway.chat(tools=[tool(strict=True)])).json()["usage"]
    assert twice["prompt_tokens"] == once["prompt_tokens"]
    assert twice["completion_tokens"] == 2 * once["completion_tokens"]


async def test_pruning(
    start_gateway: StartGateway,
) -> None:
    """Arguments that the schema does not allow are removed."""
    engine = FakeMax(scripts=[call('{"city": "Rome", "type": "city", "days": "2"}')])
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(tools=[tool(strict=True)])
    assert await read_arguments(response, stream=False) == '{"city": "Rome", "days": 2}'


@pytest.mark.parametrize("stream", [False, True])
async def test_failure(start_gateway: StartGateway, stream: bool) -> None:
    """After three attempts the response is an error that SDKs do not retry."""
    engine = FakeMax(scripts=[INCOMPLETE] * 3)
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(tools=[tool(strict=True)], stream=stream)
    assert (response.status_code, response.headers["x-should-retry"]) == (502, "false")
    assert response.json()["error"] == {
        "message": "The model called the strict function 'forecast' with arguments that do not "
        "match its parameters (attempts: 3).",
        "type": "server_error",
        "param": "tools",
        "code": "tool_call_failed",
    }
    assert len(engine.requests) == 3


@pytest.mark.parametrize(("n", "bound"), [(1, 4), (8, 12)])
async def test_engine_calls(start_gateway: StartGateway, n: int, bound: int) -> None:
    """With strict tools and structured output, all choices share one allowance of retries."""
    schema = {"name": "forecast", "schema": PARAMETERS}
    engine = FakeMax(scripts=[Script(tokens=("No JSON",)), INCOMPLETE] * bound)
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(
            tools=[tool(strict=True)],
            response_format={"type": "json_schema", "json_schema": schema},
            n=n,
        )
    assert response.status_code == 502
    assert n <= len(engine.requests) <= bound


async def test_streamed_text(
    start_gateway: StartGateway,
) -> None:
    """Text before a call is streamed at once; after that there is no retry."""
    engine = FakeMax(scripts=[call('{"city": "Rome"}', before="I look.\n")])
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(tools=[tool(strict=True)], stream=True)
    assert response.status_code == 200
    assert '"content":"I look."' in response.text
    assert '"code":"tool_call_failed"' in response.text
    assert "tool_calls" not in response.text
    assert "[DONE]" not in response.text
    assert len(engine.requests) == 1


async def test_text(start_gateway: StartGateway) -> None:
    """A response without calls is passed on."""
    async with start_gateway() as gateway:
        response = (await gateway.chat(tools=[tool(strict=True)])).json()
    assert response["choices"][0]["message"]["content"] == "The capital of France is Paris."


async def test_truncated_call(start_gateway: StartGateway) -> None:
    """A call truncated by the token limit is passed on."""
    cut = Script(tokens=['{"name": "forecast", "parameters": {"city": "Ro'], finish_reason="length")
    async with start_gateway(FakeMax(scripts=[cut])) as gateway:
        [choice] = (await gateway.chat(tools=[tool(strict=True)])).json()["choices"]
    [called] = choice["message"]["tool_calls"]
    assert (called["function"]["arguments"], choice["finish_reason"]) == ('{"city": "Ro', "length")


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"type": "wat"}, "Invalid schema for the strict function 'forecast'"),
        ({"properties": {f"p{n}": {"pattern": "a"} for n in range(65)}}, "at most 64 patterns"),
        ({"$ref": "http://169.254.169.254/"}, "must be a pointer such as"),
    ],
)
async def test_invalid_schema(gateway: Gateway, parameters: dict[str, Any], reason: str) -> None:
    """Invalid schemas are rejected before the engine is called."""
    response = await gateway.chat(tools=[tool(strict=True, parameters=parameters)])
    assert response.status_code == 400
    assert reason in response.json()["error"]["message"]
    assert gateway.engine.requests == []


async def test_forced_call(start_gateway: StartGateway, small_tokenizer: PromptTokenizer) -> None:
    """A forced call is retried with the same prefix."""
    engine = FakeMax(scripts=[Script(tokens=('Rome"}}',)), Script(tokens=('Rome", "days": 2}}',))])
    choice = {"type": "function", "function": {"name": "forecast"}}
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(tools=[tool(strict=True)], tool_choice=choice)
    assert await read_arguments(response, stream=False) == '{"city": "Rome", "days": 2}'
    prefix = '{"name": "forecast", "parameters": {"city": "'
    assert all(
        small_tokenizer.decode(request["prompt"]).endswith(prefix) for request in engine.requests
    )


async def test_early_end(
    start_gateway: StartGateway,
) -> None:
    """The engine is left when a complete call goes on with arguments that are not allowed."""
    tokens = ('Rome", "days": 2', ', "kind": "city"', *[', "more": 1'] * 50, "}}")
    engine = FakeMax(scripts=[Script(tokens=tokens)])
    choice = {"type": "function", "function": {"name": "forecast"}}
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(tools=[tool(strict=True)], tool_choice=choice)
        await engine.idle.wait()
    assert await read_arguments(response, stream=False) == '{"city": "Rome", "days": 2}'
    assert response.json()["usage"]["completion_tokens"] < 10
