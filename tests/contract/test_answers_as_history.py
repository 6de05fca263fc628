"""Responses sent back as history: SDKs add fields that requests do not have."""

from typing import Any

import openai
import pytest

from tests.clients.programs import results_of
from tests.fakes.gateway import Gateway
from tests.fakes.max_server import ANSWER

HELLO = [{"role": "user", "content": "Hello"}]
GO_ON = {"role": "user", "content": "Go on"}
SPOKEN = {"role": "assistant", "content": "".join(ANSWER)}


async def created(client: openai.AsyncOpenAI) -> Any:
    answer = await client.chat.completions.create(model="smollm2", messages=HELLO)
    return answer.choices[0].message


async def dumped(client: openai.AsyncOpenAI) -> Any:
    return (await created(client)).model_dump()


async def parsed(client: openai.AsyncOpenAI) -> Any:
    answer = await client.chat.completions.parse(model="smollm2", messages=HELLO)
    return answer.choices[0].message


async def streamed(client: openai.AsyncOpenAI) -> Any:
    async with client.chat.completions.stream(model="smollm2", messages=HELLO) as stream:
        return (await stream.get_final_completion()).choices[0].message


@pytest.mark.parametrize("read", [created, dumped, parsed, streamed])
async def test_openai_python(gateway: Gateway, read: Any) -> None:
    """A response as the Python SDK returns it gives the same prompt as a plain message."""
    url = gateway.url + "/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        for answer in (await read(client), SPOKEN):
            messages = [*HELLO, answer, GO_ON]
            await client.chat.completions.create(model="smollm2", messages=messages)
    _, handed_back, plain = gateway.engine.requests
    assert handed_back["prompt"] == plain["prompt"]


async def test_openai_node(gateway: Gateway) -> None:
    """A response as the Node SDK returns it gives the same prompt as a plain message."""
    results = await results_of("openai_history.mjs", gateway.url)
    assert results == dict.fromkeys(("created", "parsed", "streamed", "plain"), "".join(ANSWER))
    prompts = [request["prompt"] for request in gateway.engine.requests[1::2]]
    assert prompts == [prompts[-1]] * 4
