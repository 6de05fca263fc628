"""Fields beyond OpenAI's reach the engine, on both routes and for both kinds of prompts."""

from typing import Any

import pytest

from tests.fakes.gateway import Gateway, StartGateway
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax
from tests.fakes.sse import DONE, read_events

EXTENSIONS = {
    "top_k": 40,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
    "min_tokens": 4,
}
USAGE = {"include_usage": True, "continuous_usage_stats": True}
SHAPE = {"type": "json_object"}
SEARCH = {"type": "function", "function": {"name": "search"}}


async def ask(gateway: Gateway, path: str, **fields: Any) -> Any:
    if path == "completions":
        return await gateway.client.post("/v1/completions", json={"prompt": "Hello", **fields})
    return await gateway.chat(**fields)


@pytest.mark.parametrize("model", ["smollm2-135m-instruct", "other"])
@pytest.mark.parametrize("path", ["completions", "chat"])
async def test_sampling(start_gateway: StartGateway, path: str, model: str) -> None:
    """Sampling parameters are sent under their names, for cards and for engines' prompts."""
    async with start_gateway(FakeMax(models=[model])) as gateway:
        assert (await ask(gateway, path, **EXTENSIONS, priority=1)).status_code == 200
        assert (await ask(gateway, path, ignore_eos=True, min_tokens=3)).status_code == 200
        assert (await ask(gateway, path, stop_token_ids=[5, 6])).status_code == 200
    sampled, endless, stopped = gateway.engine.requests
    assert {key: sampled.get(key) for key in EXTENSIONS} == EXTENSIONS
    assert (endless["ignore_eos"], "min_tokens" in endless) == (True, False)
    assert stopped["stop_token_ids"][-2:] == [5, 6]
    assert "priority" not in sampled


@pytest.mark.parametrize("path", ["completions", "chat"])
@pytest.mark.parametrize("n", [1, 2])
async def test_running_usage(gateway: Gateway, path: str, n: int) -> None:
    """With `continuous_usage_stats`, every event has the usage so far; the last has the total."""
    response = await ask(gateway, path, stream=True, stream_options=USAGE, n=n)
    *events, last, done = read_events(response.text)
    counts = [event["usage"]["completion_tokens"] for event in events]
    assert counts == sorted(counts)
    # The engine counts one token more, the end of the turn.
    assert counts[0] == 1
    assert n * len(OUTPUT_TOKENS) <= counts[-1] < n * (len(OUTPUT_TOKENS) + 1)
    assert {event["usage"]["prompt_tokens"] > 0 for event in events} == {True}
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], n * 8)
    assert done == DONE


async def test_engine_template(start_gateway: StartGateway) -> None:
    """Variables of the chat template reach an engine that formats the prompt."""
    variables = {"enable_thinking": True, "date_string": "1 May 2026"}
    async with start_gateway(FakeMax(models=["other"])) as gateway:
        assert (await gateway.chat(chat_template_kwargs=variables)).status_code == 200
        rejected = await gateway.chat(chat_template_kwargs={"chat_template": "{{ 1 }}"})
    [request] = gateway.engine.requests
    assert request["chat_template_kwargs"] == variables
    assert rejected.json()["error"]["param"] == "chat_template_kwargs.chat_template"


@pytest.mark.parametrize("variables", [{}, {"enable_thinking": False}, {"thinking": False}])
async def test_neutral_template_variables(gateway: Gateway, variables: dict[str, Any]) -> None:
    """The gateway's own formats accept variables that ask for nothing."""
    assert (await gateway.chat(chat_template_kwargs=variables)).status_code == 200
    assert "chat_template_kwargs" not in gateway.engine.requests[0]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {"chat_template_kwargs": {"enable_thinking": True}},
            "chat_template_kwargs.enable_thinking",
        ),
        ({"chat_template_kwargs": {"enable_thinking": 0}}, "chat_template_kwargs.enable_thinking"),
        ({"chat_template_kwargs": {"date_string": "today"}}, "chat_template_kwargs.date_string"),
        ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs.tools"),
        ({"stop_token_ids": [49152]}, "stop_token_ids"),
        ({"ignore_eos": True, "response_format": SHAPE}, "ignore_eos"),
        ({"min_tokens": 2, "tools": [SEARCH], "tool_choice": "required"}, "min_tokens"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
    ],
)
async def test_rejected(gateway: Gateway, fields: dict[str, Any], param: str) -> None:
    """Fields that the gateway and MAX would ignore are rejected by name."""
    response = await gateway.chat(**fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert gateway.engine.requests == []


async def test_unchecked_stop_tokens(start_gateway: StartGateway) -> None:
    """Without the vocabulary, stop tokens that MAX would mask are rejected."""
    async with start_gateway(FakeMax(models=["other"])) as gateway:
        response = await gateway.chat(stop_token_ids=[5], min_tokens=2)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "stop_token_ids")
