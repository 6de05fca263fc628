"""Clients send responses back as history, with fields that requests do not have."""

from typing import Any

import openai
import pytest

from tests.clients.openai_client import create_client
from tests.clients.programs import run_program
from tests.fakes.gateway import Gateway
from tests.fakes.max_server import OUTPUT_TOKENS

HELLO = [{"role": "user", "content": "Hello"}]
FOLLOW_UP = {"role": "user", "content": "Go on"}
PLAIN = {"role": "assistant", "content": "".join(OUTPUT_TOKENS)}


async def read_created(client: openai.AsyncOpenAI) -> Any:
    completion = await client.chat.completions.create(model="smollm2", messages=HELLO)
    return completion.choices[0].message


async def read_dumped(client: openai.AsyncOpenAI) -> Any:
    return (await read_created(client)).model_dump()


async def read_parsed(client: openai.AsyncOpenAI) -> Any:
    completion = await client.chat.completions.parse(model="smollm2", messages=HELLO)
    return completion.choices[0].message


async def read_streamed(client: openai.AsyncOpenAI) -> Any:
    async with client.chat.completions.stream(model="smollm2", messages=HELLO) as stream:
        return (await stream.get_final_completion()).choices[0].message


@pytest.mark.parametrize("read", [read_created, read_dumped, read_parsed, read_streamed])
async def test_openai_python(gateway: Gateway, read: Any) -> None:
    """A response as the Python SDK returns it gives the same prompt as a plain message."""
    async with create_client(gateway.url) as client:
        for message in (await read(client), PLAIN):
            messages = [*HELLO, message, FOLLOW_UP]
            await client.chat.completions.create(model="smollm2", messages=messages)
    _, sent_back, plain = gateway.engine.requests
    assert sent_back["prompt"] == plain["prompt"]


async def test_openai_node(gateway: Gateway) -> None:
    """A response as the Node SDK returns it gives the same prompt as a plain message."""
    results = await run_program("openai_history.mjs", gateway.url)
    assert results == dict.fromkeys(
        ("created", "parsed", "streamed", "plain"), "".join(OUTPUT_TOKENS)
    )
    prompts = [request["prompt"] for request in gateway.engine.requests[1::2]]
    assert prompts == [prompts[-1]] * 4
