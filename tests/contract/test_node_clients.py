"""Node clients with the whole gateway in front of a fake MAX."""

import asyncio

import pytest

from tests.clients.programs import run_program
from tests.fakes.gateway import Gateway, StartGateway
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax, Script

RESULT = {"text": "".join(OUTPUT_TOKENS), "finish_reason": "stop", "total_tokens": 45}
UNKNOWN_MODEL = {
    "status": 404,
    "type": "invalid_request_error",
    "code": "model_not_found",
    "param": "model",
}
INVALID_TEMPERATURE = {
    "status": 400,
    "type": "invalid_request_error",
    "code": "decimal_above_max_value",
    "param": "temperature",
}
PROGRAMS = pytest.mark.parametrize("program", ["openai.mjs", "vercel.mjs"])


async def test_openai(gateway: Gateway) -> None:
    """The OpenAI SDK reads responses, streams and models."""
    checks = ("create", "stream", "streamHelper", "rawResponse", "models")
    assert await run_program("openai.mjs", gateway.url, *checks) == {
        "create": RESULT,
        "stream": {"text": "".join(OUTPUT_TOKENS), "total_tokens": 45},
        "streamHelper": RESULT,
        "rawResponse": {**RESULT, "status": 200, "sameId": True, "id": "req_"},
        "models": {"ids": ["smollm2-135m-instruct"], "retrieved": "smollm2-135m-instruct"},
    }


async def test_openai_errors(gateway: Gateway) -> None:
    """Errors are the OpenAI SDK's own classes."""
    assert await run_program("openai.mjs", gateway.url, "unknownModel", "invalidTemperature") == {
        "unknownModel": {"class": "NotFoundError", **UNKNOWN_MODEL},
        "invalidTemperature": {"class": "BadRequestError", **INVALID_TEMPERATURE},
    }


async def test_vercel(gateway: Gateway) -> None:
    """The Vercel AI SDK reads responses and streams."""
    assert await run_program("vercel.mjs", gateway.url, "generateText", "streamText") == {
        "generateText": RESULT,
        "streamText": RESULT,
    }


async def test_vercel_errors(gateway: Gateway) -> None:
    """The Vercel AI SDK does not retry client errors."""
    failed = {"class": "AI_APICallError", "retry": False}
    assert await run_program("vercel.mjs", gateway.url, "unknownModel", "invalidTemperature") == {
        "unknownModel": {**failed, **UNKNOWN_MODEL},
        "invalidTemperature": {**failed, **INVALID_TEMPERATURE},
    }


@PROGRAMS
async def test_disconnect(start_gateway: StartGateway, program: str) -> None:
    """Disconnecting cancels the request in the engine."""
    engine = FakeMax(scripts=[Script(silent_after=3)])
    async with start_gateway(engine) as gateway:
        results = await run_program(program, gateway.url, "disconnect")
        await asyncio.wait_for(engine.idle.wait(), 5)
    assert (results, engine.aborted) == ({"disconnect": {"aborted": True}}, 1)


async def test_openai_truncated_stream(
    start_gateway: StartGateway,
) -> None:
    """The OpenAI SDK raises if the engine breaks a stream off."""
    async with start_gateway(FakeMax(scripts=[Script(cut_after=3)] * 3)) as gateway:
        assert await run_program("openai.mjs", gateway.url, "streamCutOff") == {
            "streamCutOff": {
                "text": "The capital of",
                "class": "APIError",
                "code": "upstream_error",
            }
        }


async def test_vercel_truncated_stream(
    start_gateway: StartGateway,
) -> None:
    """The Vercel AI SDK reports a stream that the engine breaks off."""
    message = "The engine's response was cut off."
    async with start_gateway(FakeMax(scripts=[Script(cut_after=3)] * 3)) as gateway:
        assert await run_program("vercel.mjs", gateway.url, "streamCutOff") == {
            "streamCutOff": {"text": "The capital of", "messages": [message]}
        }
