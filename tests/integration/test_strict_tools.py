"""Tools that are `strict`: what an OpenAI client gets fits, or is an error."""

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


FITS = call('{"city": "Rome", "days": 2}')
LACKS_ONE = call('{"city": "Rome"}')


async def arguments_of(answer: httpx.Response, *, stream: bool) -> str:
    """The arguments of the one call."""
    if not stream:
        [called] = answer.json()["choices"][0]["message"]["tool_calls"]
        return str(called["function"]["arguments"])
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line[:7] == "data: {"]
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    called = [c for delta in deltas for c in delta.get("tool_calls", ())]
    assert {c["index"] for c in called} == {0}
    return "".join(c["function"]["arguments"] for c in called)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_lacks_an_argument_is_asked_for_again(
    start_gateway: StartGateway, stream: bool
) -> None:
    engine = FakeMax(scripts=[LACKS_ONE, FITS])
    async with start_gateway(engine) as gateway:
        answer = await gateway.chat(tools=[tool(strict=True)], stream=stream, seed=5)
    assert await arguments_of(answer, stream=stream) == '{"city": "Rome", "days": 2}'
    assert [asked["seed"] for asked in engine.requests] == [5, 6]


async def test_without_strict_the_call_is_the_models(start_gateway: StartGateway) -> None:
    engine = FakeMax(scripts=[LACKS_ONE])
    async with start_gateway(engine) as gateway:
        answer = await gateway.chat(tools=[tool(strict=False)])
    assert await arguments_of(answer, stream=False) == '{"city": "Rome"}'


async def test_the_tokens_of_all_tries_are_counted(start_gateway: StartGateway) -> None:
    engine = FakeMax(scripts=[LACKS_ONE, FITS])
    async with start_gateway(engine) as gateway:
        twice = (await gateway.chat(tools=[tool(strict=True)])).json()["usage"]
        engine.scripts = [FITS]
        once = (await gateway.chat(tools=[tool(strict=True)])).json()["usage"]
    assert twice["prompt_tokens"] == once["prompt_tokens"]
    assert twice["completion_tokens"] == 2 * once["completion_tokens"]


async def test_fields_that_the_schema_leaves_no_room_for_are_left_out(
    start_gateway: StartGateway,
) -> None:
    engine = FakeMax(scripts=[call('{"city": "Rome", "type": "city", "days": "2"}')])
    async with start_gateway(engine) as gateway:
        answer = await gateway.chat(tools=[tool(strict=True)])
    assert await arguments_of(answer, stream=False) == '{"city": "Rome", "days": 2}'


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_never_fits_is_an_error(
    start_gateway: StartGateway, stream: bool
) -> None:
    engine = FakeMax(scripts=[LACKS_ONE] * 3)
    async with start_gateway(engine) as gateway:
        answer = await gateway.chat(tools=[tool(strict=True)], stream=stream)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (502, "false")
    assert answer.json()["error"] == {
        "message": "The model called 'forecast', which is strict, with arguments that do not fit "
        "its parameters (tries: 3).",
        "type": "server_error",
        "param": "tools",
        "code": "tool_call_failed",
    }
    assert len(engine.requests) == 3


async def test_text_before_a_call_is_not_waited_for_and_not_taken_back(
    start_gateway: StartGateway,
) -> None:
    engine = FakeMax(scripts=[call('{"city": "Rome"}', before="I look.\n")])
    async with start_gateway(engine) as gateway:
        answer = await gateway.chat(tools=[tool(strict=True)], stream=True)
    assert answer.status_code == 200
    assert '"content":"I look."' in answer.text
    assert '"code":"tool_call_failed"' in answer.text
    assert "tool_calls" not in answer.text
    assert "[DONE]" not in answer.text
    assert len(engine.requests) == 1


async def test_text_alone_is_passed_on(start_gateway: StartGateway) -> None:
    async with start_gateway() as gateway:
        answer = (await gateway.chat(tools=[tool(strict=True)])).json()
    assert answer["choices"][0]["message"]["content"] == "The capital of France is Paris."


async def test_a_call_that_the_limit_cut_is_passed_on(start_gateway: StartGateway) -> None:
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
        ({"$ref": "http://169.254.169.254/"}, "only references such as"),
    ],
)
async def test_a_strict_schema_that_is_none_is_refused(
    gateway: Gateway, parameters: dict[str, Any], reason: str
) -> None:
    answer = await gateway.chat(tools=[tool(strict=True, parameters=parameters)])
    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]
    assert gateway.engine.requests == []


async def test_a_named_strict_tool_is_asked_for_again_too(
    start_gateway: StartGateway, small_tokenizer: PromptTokenizer
) -> None:
    engine = FakeMax(scripts=[Script(tokens=('Rome"}}',)), Script(tokens=('Rome", "days": 2}}',))])
    choice = {"type": "function", "function": {"name": "forecast"}}
    async with start_gateway(engine) as gateway:
        answer = await gateway.chat(tools=[tool(strict=True)], tool_choice=choice)
    assert await arguments_of(answer, stream=False) == '{"city": "Rome", "days": 2}'
    opening = '{"name": "forecast", "parameters": {"city": "'
    assert all(
        small_tokenizer.decode(asked["prompt"]).endswith(opening) for asked in engine.requests
    )


async def test_a_call_that_goes_on_with_what_it_may_not_have_is_left(
    start_gateway: StartGateway,
) -> None:
    goes_on = ('Rome", "days": 2', ', "kind": "city"', *[', "more": 1'] * 50, "}}")
    engine = FakeMax(scripts=[Script(tokens=goes_on)])
    choice = {"type": "function", "function": {"name": "forecast"}}
    async with start_gateway(engine) as gateway:
        answer = await gateway.chat(tools=[tool(strict=True)], tool_choice=choice)
        await engine.idle.wait()
    assert await arguments_of(answer, stream=False) == '{"city": "Rome", "days": 2}'
    assert answer.json()["usage"]["completion_tokens"] < 10
