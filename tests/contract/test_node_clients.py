"""Node clients work with the gateway in front of a fake MAX."""

import asyncio

import pytest

from tests.clients.programs import run_program
from tests.fakes.gateway import Gateway, StartGateway
from tests.fakes.max_server import ANSWER, FakeMax, Script

RESULT = {"text": "".join(ANSWER), "finish_reason": "stop", "total_tokens": 45}
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


async def test_openai_responses(gateway: Gateway) -> None:
    """OpenAI's client reads completions, streams, headers and models."""
    checks = ("create", "stream", "streamHelper", "rawResponse", "models")
    assert await run_program("openai.mjs", gateway.url, *checks) == {
        "create": RESULT,
        "stream": {"text": "".join(ANSWER), "total_tokens": 45},
        "streamHelper": RESULT,
        "rawResponse": {**RESULT, "status": 200, "sameId": True, "id": "req_"},
        "models": {"ids": ["smollm2-135m-instruct"], "retrieved": "smollm2-135m-instruct"},
    }


async def test_openai_errors(gateway: Gateway) -> None:
    """Errors raise the classes of OpenAI's client, with code and field."""
    assert await run_program("openai.mjs", gateway.url, "unknownModel", "invalidTemperature") == {
        "unknownModel": {"class": "NotFoundError", **UNKNOWN_MODEL},
        "invalidTemperature": {"class": "BadRequestError", **INVALID_TEMPERATURE},
    }


async def test_vercel_responses(gateway: Gateway) -> None:
    """The Vercel AI SDK reads completions and streams."""
    assert await run_program("vercel.mjs", gateway.url, "generateText", "streamText") == {
        "generateText": RESULT,
        "streamText": RESULT,
    }


async def test_vercel_errors(gateway: Gateway) -> None:
    """The Vercel AI SDK does not retry errors of the request."""
    failed = {"class": "AI_APICallError", "retry": False}
    assert await run_program("vercel.mjs", gateway.url, "unknownModel", "invalidTemperature") == {
        "unknownModel": {**failed, **UNKNOWN_MODEL},
        "invalidTemperature": {**failed, **INVALID_TEMPERATURE},
    }


@PROGRAMS
async def test_disconnect(start_gateway: StartGateway, program: str) -> None:
    """A client that aborts its stream aborts the engine's request."""
    engine = FakeMax(scripts=[Script(silent_after=3)])
    async with start_gateway(engine) as gateway:
        results = await run_program(program, gateway.url, "disconnect")
        await asyncio.wait_for(engine.idle.wait(), 5)
    assert (results, engine.aborted) == ({"disconnect": {"aborted": True}}, 1)


async def test_openai_stream_cut_off(
    start_gateway: StartGateway,
) -> None:
    """OpenAI's client raises APIError if a stream is cut off."""
    async with start_gateway(FakeMax(scripts=[Script(cut_after=3)])) as gateway:
        assert await run_program("openai.mjs", gateway.url, "streamCutOff") == {
            "streamCutOff": {
                "text": "The capital of",
                "class": "APIError",
                "code": "upstream_error",
            }
        }


async def test_vercel_stream_cut_off(
    start_gateway: StartGateway,
) -> None:
    """The Vercel AI SDK reports the error if a stream is cut off."""
    message = "The engine's response was cut off."
    async with start_gateway(FakeMax(scripts=[Script(cut_after=3)])) as gateway:
        assert await run_program("vercel.mjs", gateway.url, "streamCutOff") == {
            "streamCutOff": {"text": "The capital of", "messages": [message]}
        }
