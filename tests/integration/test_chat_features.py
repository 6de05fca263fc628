"""Tools, structured output, choices, logprobs and penalties over HTTP."""

from typing import Any

import pytest

from maxgate.prompts.tokenizer import PromptTokenizer
from tests.fakes.gateway import Gateway, StartGateway
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.sse import read_choices

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
SEARCH = {"type": "function", "function": {"name": "search"}}
SHAPE = {
    "type": "json_schema",
    "json_schema": {
        "name": "place",
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def read_prompt(request: dict[str, Any], tokenizer: PromptTokenizer) -> str:
    return tokenizer.decode(request["prompt"])


async def test_tool_call(start_gateway: StartGateway, small_tokenizer: PromptTokenizer) -> None:
    """A call in the text becomes a tool call; the tools are in the prompt."""
    text = ('{"name": "get_', 'weather", "parameters": {"city": ', '"Paris"}}')
    engine = FakeMax(scripts=[Script(tokens=text)])
    async with start_gateway(engine) as gateway:
        [choice] = (await gateway.chat(tools=[WEATHER])).json()["choices"]
    [call] = choice["message"].pop("tool_calls")
    assert call.pop("id").startswith("call_")
    assert call == {
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
    }
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": None, "refusal": None},
        "logprobs": None,
        "finish_reason": "tool_calls",
    }
    assert '"name": "get_weather"' in read_prompt(engine.requests[0], small_tokenizer)


async def test_streamed_tool_call(start_gateway: StartGateway) -> None:
    """A streamed call sends its name first, then pieces of its arguments."""
    text = ('{"name": "get_', 'weather", "parameters": {"city": "Par', 'is"}}')
    engine = FakeMax(scripts=[Script(tokens=text)])
    async with start_gateway(engine) as gateway:
        chunks = read_choices((await gateway.chat(tools=[WEATHER], stream=True)).text)
    prefix, first, *rest, last = chunks
    assert prefix["delta"] == {"role": "assistant", "content": None, "refusal": None}
    [call] = first["delta"]["tool_calls"]
    assert call.pop("id").startswith("call_")
    named = {"name": "get_weather", "arguments": ""}
    assert call == {"index": 0, "type": "function", "function": named}
    pieces = [c["delta"]["tool_calls"][0]["function"]["arguments"] for c in rest]
    assert "".join(pieces) == '{"city": "Paris"}'
    assert (last["delta"], last["finish_reason"]) == ({}, "tool_calls")


async def test_named_tool(start_gateway: StartGateway, small_tokenizer: PromptTokenizer) -> None:
    """Without a grammar, the prompt ends with the start of the call."""
    engine = FakeMax(scripts=[Script(tokens=("Rome", '"}}', " and more"))])
    choice = {"type": "function", "function": {"name": "get_weather"}}
    async with start_gateway(engine) as gateway:
        completion = (await gateway.chat(tools=[WEATHER, SEARCH], tool_choice=choice)).json()
        await engine.idle.wait()
    [call] = completion["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Rome"}'}
    prefix = '{"name": "get_weather", "parameters": {"city": "'
    assert read_prompt(engine.requests[0], small_tokenizer).endswith(prefix)


@pytest.mark.parametrize("finish_reason", ["stop", "length"])
@pytest.mark.parametrize(
    ("tokens", "count"),
    [(('"x": 1',), 2), (('"x": 1', ', "y": 2'), 1)],  # MAX counts the token that ends a response
)
async def test_forced_call_without_parameters(
    start_gateway: StartGateway, tokens: tuple[str, ...], count: int, finish_reason: str
) -> None:
    """A call of a tool without parameters has the arguments {} and ends with the first token."""
    engine = FakeMax(scripts=[Script(tokens=tokens, finish_reason=finish_reason)])
    choice = {"type": "function", "function": {"name": "search"}}
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(tools=[SEARCH], tool_choice=choice)
        await engine.idle.wait()
    completion = response.json()
    [call] = completion["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "search", "arguments": "{}"}
    assert completion["choices"][0]["finish_reason"] == "tool_calls"
    assert completion["usage"]["completion_tokens"] == count


async def test_forced_call_ends(start_gateway: StartGateway) -> None:
    """A forced call ends with its last declared argument, streamed or not."""
    tokens = ("Rome", '"', ', "', 'country": "', "Italy", '"}}')
    engine = FakeMax(scripts=[Script(tokens=tokens), Script(tokens=tokens)])
    fields: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required"}
    async with start_gateway(engine) as gateway:
        completion = (await gateway.chat(**fields)).json()
        chunks = read_choices((await gateway.chat(**fields, stream=True)).text)
    [call] = completion["choices"][0]["message"]["tool_calls"]
    deltas = [d["function"] for c in chunks for d in c["delta"].get("tool_calls", ())]
    streamed = "".join([delta["arguments"] for delta in deltas])
    assert call["function"]["arguments"] == streamed == '{"city": "Rome"}'
    assert chunks[-1]["finish_reason"] == "tool_calls"
    assert completion["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("finish_reason", ["stop", "length"])
async def test_single_finish_reason(start_gateway: StartGateway, finish_reason: str) -> None:
    """A call completed by the last chunk ends the stream once."""
    engine = FakeMax(scripts=[Script(tokens=('Rome"}}',), finish_reason=finish_reason)])
    choice = {"type": "function", "function": {"name": "get_weather"}}
    async with start_gateway(engine) as gateway:
        text = (await gateway.chat(tools=[WEATHER], tool_choice=choice, stream=True)).text
    reasons = [c["finish_reason"] for c in read_choices(text) if c["finish_reason"]]
    assert len(reasons) == 1
    assert text.endswith("data: [DONE]\n\n")


async def test_required_tool(
    start_gateway: StartGateway,
) -> None:
    """The model chooses a tool in a request of its own, whose tokens are counted."""
    engine = FakeMax(scripts=[Script(tokens=("sea",)), Script(tokens=("}}",))])
    async with start_gateway(engine) as gateway:
        completion = (await gateway.chat(tools=[WEATHER, SEARCH], tool_choice="required")).json()
        engine.scripts = [Script(tokens=("}}",))]
        single = (await gateway.chat(tools=[SEARCH], tool_choice="required")).json()
    [call] = completion["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "search", "arguments": "{}"}
    name_tokens = completion["usage"]["completion_tokens"] - single["usage"]["completion_tokens"]
    assert name_tokens == len(("sea", "the end of it"))


async def test_forced_call_by_grammar(start_gateway: StartGateway) -> None:
    """An engine with a grammar gets the schema of the call."""
    text = '{"name":"get_weather","parameters":{"city":"Rome"}}'
    engine = FakeMax(grammar=True, scripts=[Script(tokens=(text,))])
    async with start_gateway(engine) as gateway:
        completion = (await gateway.chat(tools=[WEATHER], tool_choice="required")).json()
    [call] = completion["choices"][0]["message"]["tool_calls"]
    assert call["function"]["arguments"] == '{"city": "Rome"}'
    [request] = engine.requests
    assert engine.paths == ["/v1/chat/completions"]
    assert isinstance(request["prompt_tokens"], list)
    schema = request["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["name"] == {"const": "get_weather"}


async def test_earlier_calls(gateway: Gateway, small_tokenizer: PromptTokenizer) -> None:
    """Earlier calls, their results and names of users are in the prompt."""
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
    }
    messages = [
        {"role": "user", "content": "Weather?", "name": "Ada"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"},
    ]
    assert (await gateway.chat(messages=messages)).status_code == 200
    text = read_prompt(gateway.engine.requests[0], small_tokenizer)
    assert "Ada: Weather?" in text
    assert '{"name": "get_weather", "parameters": {"city": "Rome"}}' in text
    assert "Sunny" in text


async def test_empty_arguments(gateway: Gateway, small_tokenizer: PromptTokenizer) -> None:
    """An earlier call with empty arguments is written with an empty object."""
    call = {"id": "a", "type": "function", "function": {"name": "search", "arguments": ""}}
    messages = [
        {"role": "user", "content": "Go on."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "Nothing."},
    ]
    await gateway.chat(messages=messages)
    text = read_prompt(gateway.engine.requests[0], small_tokenizer)
    assert '{"name": "search", "parameters": {}}' in text


async def test_structured_output(
    start_gateway: StartGateway,
) -> None:
    """Valid JSON is returned without the text after it."""
    engine = FakeMax(scripts=[Script(tokens=("Rome", '"}', " There!"))])
    async with start_gateway(engine) as gateway:
        completion = (await gateway.chat(response_format=SHAPE)).json()
    [choice] = completion["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ('{"city": "Rome"}', "stop")


async def test_structured_output_failure(
    start_gateway: StartGateway,
) -> None:
    """Invalid JSON is retried and never returned."""
    wrong = Script(tokens=('", "city": 5}',))
    engine = FakeMax(scripts=[wrong, wrong, wrong])
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(response_format=SHAPE, stream=True)
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "structured_output_failed"
    assert response.headers["x-should-retry"] == "false"
    assert len(engine.requests) == 3


@pytest.mark.parametrize("stream", [True, False])
async def test_truncated_structured_output(start_gateway: StartGateway, *, stream: bool) -> None:
    """JSON that 'max_tokens' truncates is returned with the finish reason "length"."""
    engine = FakeMax(scripts=[Script(tokens=("Ro", "me"), finish_reason="length")])
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(response_format=SHAPE, max_tokens=2, stream=stream)
    if stream:
        choices = read_choices(response.text)
        text = "".join([choice["delta"].get("content") or "" for choice in choices])
    else:
        choices = response.json()["choices"]
        text = choices[0]["message"]["content"]
    assert (text, choices[-1]["finish_reason"]) == ('{"city": "Rome', "length")


async def test_structured_output_by_grammar(start_gateway: StartGateway) -> None:
    """An engine with a grammar gets the schema."""
    engine = FakeMax(grammar=True, scripts=[Script(tokens=('{"city":"Rome"}',))])
    async with start_gateway(engine) as gateway:
        completion = (await gateway.chat(response_format=SHAPE)).json()
    assert completion["choices"][0]["message"]["content"] == '{"city":"Rome"}'
    schema = engine.requests[0]["response_format"]["json_schema"]["schema"]
    assert schema == SHAPE["json_schema"]["schema"]  # type: ignore[index]


@pytest.mark.parametrize("grammar", [True, False])
async def test_schema_in_prompt(
    start_gateway: StartGateway, small_tokenizer: PromptTokenizer, *, grammar: bool
) -> None:
    """The model sees descriptions and allowed values, with and without a grammar."""
    kind = {"enum": ["town", "city"], "description": "By population"}
    schema = {"type": "object", "properties": {"kind": kind}}
    named = {"name": "place", "description": "Of the user", "schema": schema}
    engine = FakeMax(grammar=grammar, scripts=[Script(tokens=('{"kind": "town"}',))])
    async with start_gateway(engine) as gateway:
        await gateway.chat(response_format={"type": "json_schema", "json_schema": named})
    request = engine.requests[0]
    prompt = small_tokenizer.decode(request["prompt_tokens" if grammar else "prompt"])
    assert (
        '{"description":"Of the user","type":"object","properties":'
        '{"kind":{"enum":["town","city"],"description":"By population"}}}'
    ) in prompt


async def test_choices(gateway: Gateway) -> None:
    """Choices have indices and seeds of their own, and their usage is summed."""
    completion = (await gateway.chat(n=3, seed=5)).json()
    assert [choice["index"] for choice in completion["choices"]] == [0, 1, 2]
    assert sorted(request["seed"] for request in gateway.engine.requests) == [5, 6, 7]
    assert completion["usage"]["prompt_tokens"] == 37
    assert completion["usage"]["completion_tokens"] == 24


async def test_streamed_choices(gateway: Gateway) -> None:
    """Each choice has its own first and last event."""
    options = {"include_usage": True}
    text = (await gateway.chat(n=2, stream=True, stream_options=options)).text
    chunks = read_choices(text)
    for number in (0, 1):
        own = [chunk for chunk in chunks if chunk["index"] == number]
        assert own[0]["delta"]["role"] == "assistant"
        assert own[-1]["finish_reason"] == "stop"
    assert text.endswith("data: [DONE]\n\n")


async def test_failing_choice(start_gateway: StartGateway) -> None:
    """If one choice fails, the others are cancelled."""
    engine = FakeMax(scripts=[Script(silent_after=0), Script(status=500)])
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(n=2)
        await engine.idle.wait()
    assert (response.status_code, engine.aborted) == (502, 1)


@pytest.mark.parametrize(
    ("engine", "fields", "param"),
    [
        (FakeMax(penalties=False), {"frequency_penalty": 1}, "frequency_penalty"),
        (FakeMax(logprobs=False), {"logprobs": True}, "logprobs"),
        (FakeMax(), {"logprobs": True, "top_logprobs": 9}, "top_logprobs"),
        (FakeMax(), {"top_logprobs": 2}, "top_logprobs"),
        (FakeMax(), {"stream_options": {"include_usage": True}}, "stream_options"),
        (FakeMax(), {"tool_choice": "required"}, "tool_choice"),
        (FakeMax(), {"tools": [SEARCH, SEARCH]}, "tools"),
        (FakeMax(), {"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            FakeMax(),
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": "a"}]},
            "messages[0].tool_call_id",
        ),
        (
            FakeMax(),
            {"response_format": {**SHAPE, "json_schema": {"name": "x", "schema": {"type": "wat"}}}},
            "response_format.json_schema.schema",
        ),
    ],
)
async def test_unsupported_fields(
    start_gateway: StartGateway, engine: FakeMax, fields: dict[str, Any], param: str
) -> None:
    """Unsupported and invalid parameters are named, and the engine is not called."""
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(**fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert engine.requests == []


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        r'{"name": "search", "parameters": {"query": "\ud800"}}',
        r'{"name": "search", "parameters": {"query": ["\ud800"], "\ud800": 1}}',
        r'{"name": "search", "parameters": "{\"query\": \"\\ud800\"}"}',
        r'[search(query="\ud800")]',
        '{"name": "search", "parameters": {"query": 1e400, "limit": 1e400}}',
    ],
)
async def test_unusual_arguments(start_gateway: StartGateway, text: str, *, stream: bool) -> None:
    """Lone surrogates and huge numbers in arguments do not break the response."""
    async with start_gateway(FakeMax(scripts=[Script(tokens=[text])])) as gateway:
        response = await gateway.chat(tools=[SEARCH], stream=stream)
    assert response.status_code == 200
    assert "error" not in response.text
    assert '"finish_reason":"tool_calls"' in response.text
