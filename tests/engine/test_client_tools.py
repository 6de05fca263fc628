"""Tools and structured output with real clients on the real engine.

The small model rarely calls a tool by itself, so every test names the tool.
"""

import json
from typing import Annotated, Any

import openai
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from pydantic import AfterValidator, BaseModel

from tests.clients.langchain_model import chat_model
from tests.clients.openai_client import create_client
from tests.clients.programs import run_program
from tests.engine.real_gateway import RealGateway

pytestmark = pytest.mark.engine

WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
PLAIN = {"model": "smollm2", "temperature": 0, "max_tokens": 60}
CITY = {"city": "Paris"}


class GetWeather(BaseModel):
    """The weather in a city."""

    city: str


class Capital(BaseModel):
    """A country's capital."""

    # The small model sometimes writes in capital letters.
    country: Annotated[str, AfterValidator(str.title)]
    city: str


class City(BaseModel):
    """A city."""

    city: str


TOOLS = [openai.pydantic_function_tool(GetWeather, name="get_weather")]
FORCED = {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "get_weather"}}}


async def round_trip(client: openai.AsyncOpenAI, choice: Any) -> dict[str, Any]:
    """Return the tool's result under the id of its call, and read the final message."""
    (call,) = choice.message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "clear"}'}
    messages = [*WEATHER, choice.message, result]
    last = await client.chat.completions.create(
        messages=messages, tools=TOOLS, tool_choice="none", **{**PLAIN, "max_tokens": 5}
    )
    return {
        "finish_reason": choice.finish_reason,
        "content": choice.message.content,
        "call": (call.id[:5], call.type, call.function.name),
        "arguments": json.loads(call.function.arguments),
        "has_final_message": bool(last.choices[0].message.content)
        and not last.choices[0].message.tool_calls,
    }


ROUND_TRIP = {
    "finish_reason": "tool_calls",
    "content": None,
    "call": ("call_", "function", "get_weather"),
    "arguments": CITY,
    "has_final_message": True,
}


async def test_openai_tool_call(real_gateway: RealGateway) -> None:
    """OpenAI's client calls a tool and continues with its result."""
    async with create_client(real_gateway.url) as client:
        chat = client.chat.completions
        created = await chat.create(messages=WEATHER, **FORCED, **PLAIN)
        assert await round_trip(client, created.choices[0]) == ROUND_TRIP


async def test_openai_parsed_call(real_gateway: RealGateway) -> None:
    """OpenAI's client parses the arguments of a call."""
    async with create_client(real_gateway.url) as client:
        chat = client.chat.completions
        parsed = (await chat.parse(messages=WEATHER, **FORCED, **PLAIN)).choices[0]
        assert parsed.message.tool_calls is not None
        called = parsed.message.tool_calls[0].function.parsed_arguments
        assert (called, await round_trip(client, parsed)) == (GetWeather(city="Paris"), ROUND_TRIP)


async def test_openai_streamed_call(real_gateway: RealGateway) -> None:
    """OpenAI's client streams a call and parses its arguments."""
    async with create_client(real_gateway.url) as client:
        chat = client.chat.completions
        async with chat.stream(messages=WEATHER, **FORCED, **PLAIN) as stream:
            done = [event async for event in stream if event.type.endswith("arguments.done")]
            streamed = (await stream.get_final_completion()).choices[0]
        assert [(event.index, event.parsed_arguments) for event in done] == [
            (0, GetWeather(city="Paris"))
        ]
        assert await round_trip(client, streamed) == ROUND_TRIP


async def test_openai_parsed_output(real_gateway: RealGateway) -> None:
    """OpenAI's client parses structured output, streamed or not."""
    async with create_client(real_gateway.url) as client:
        chat = client.chat.completions
        whole = await chat.parse(messages=FRANCE, response_format=Capital, **PLAIN)
        async with chat.stream(messages=FRANCE, response_format=Capital, **PLAIN) as stream:
            streamed = await stream.get_final_completion()
    assert [one.choices[0].message.parsed for one in (whole, streamed)] == [
        Capital(country="France", city="Paris")
    ] * 2


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"clear in {city}"


async def test_langchain_tool_call(real_gateway: RealGateway) -> None:
    """LangChain calls a tool and continues with its result."""
    question = HumanMessage(str(WEATHER[0]["content"]))
    async with chat_model(real_gateway.url, **PLAIN) as model:
        forced = model.bind_tools([get_weather], tool_choice="get_weather")
        pieces = [piece async for piece in forced.astream([question])]
        for message in (await forced.ainvoke([question]), sum(pieces[1:], pieces[0])):
            (call,) = message.tool_calls
            assert (call["id"][:5], call["name"], call["args"]) == ("call_", "get_weather", CITY)
            result = await get_weather.ainvoke(call)
            unforced = model.bind_tools([get_weather], tool_choice="none", max_tokens=5)
            last = await unforced.ainvoke([question, message, result])
            assert (bool(last.content), last.tool_calls) == (True, [])


async def test_langchain_structured_output(real_gateway: RealGateway) -> None:
    """LangChain gets structured output by schema and by call."""
    async with chat_model(real_gateway.url, **PLAIN) as model:
        by_schema = model.with_structured_output(Capital, method="json_schema")
        by_call = model.with_structured_output(City, method="function_calling")
        outputs = [await by_schema.ainvoke(FRANCE), await by_call.ainvoke(FRANCE)]
    assert outputs == [Capital(country="France", city="Paris"), City(city="Paris")]


async def test_openai_node(real_gateway: RealGateway) -> None:
    """OpenAI's Node client calls tools and parses structured output."""
    trip = {
        "finish_reason": "tool_calls",
        "content": None,
        "calls": [["call_", "function", "get_weather"]],
        "received": [CITY],
        "hasFinalMessage": True,
    }
    parsed = {"finish_reason": "stop", "fields": ["country", "city"], **CITY}
    assert await run_program("openai_tools.mjs", real_gateway.url) == {
        "tool": trip,
        "toolStreamed": {
            "id": "call_",
            "name": "get_weather",
            "indices": [0],
            "namedOnce": True,
            "arguments": CITY,
        },
        "toolStreamHelper": trip,
        "runTools": {"received": [CITY, CITY]},
        "parse": parsed,
        "parseStreamed": parsed,
    }


async def test_vercel(real_gateway: RealGateway) -> None:
    """The Vercel AI SDK calls tools and generates objects."""
    trip = {
        "finish_reason": "tool-calls",
        "content": "",
        "calls": [["call_", "get_weather"]],
        "received": [CITY],
        "hasFinalMessage": True,
        "more": [],
    }
    made = {"finish_reason": "stop", "fields": ["country", "city"], **CITY}
    assert await run_program("vercel_tools.mjs", real_gateway.url) == {
        "tool": trip,
        "toolStreamed": trip,
        "object": made,
        "objectStreamed": made,
    }
