"""Measure how close an engine's choice between two tokens was."""

import asyncio
from typing import Final

import orjson

from maxgate.errors import GatewayError
from maxgate.generation.request import GenerationRequest, Sampling, TokenIds
from maxgate.upstream.client import EngineClient
from maxgate.upstream.continuation import can_continue
from maxgate.upstream.http1.messages import EngineRequest, resolve_route
from maxgate.upstream.max_api.generation import select_path, serialize_request

_TIMEOUT: Final = 10.0
_ONE_TOKEN: Final = Sampling(0.0, 1.0, max_tokens=1, logprobs=2)


async def measure_gap(
    client: EngineClient, engine: str, request: GenerationRequest, ids: list[int]
) -> float | None:
    """Return the difference of the log probabilities of the two likeliest tokens.

    They follow the request's prompt and `ids` at the engine with this base URL. None if the engine
    does not report log probabilities, or if penalties make the tokens depend on more.
    """
    prompt = request.prompt_token_ids
    if prompt is None or not can_continue(request._replace(stream=True)):
        return None
    question = request._replace(
        stream=False,
        prompt_token_ids=TokenIds.join([prompt, TokenIds.of(ids)]),
        sampling=_ONE_TOKEN,
        tool_use=None,
        prefix="",
        running_usage=False,
        with_token_ids=False,
    )
    route = resolve_route(engine, select_path(question))
    body = serialize_request(question)
    try:
        message = EngineRequest(route, body, _TIMEOUT, _TIMEOUT, _TIMEOUT)
        async with asyncio.timeout(_TIMEOUT), await client.send(message) as response:
            content = await response.read()
    except (GatewayError, TimeoutError):
        return None
    return _parse(content)


def _parse(content: bytes) -> float | None:
    """Return the gap in a response; None if it has none."""
    try:
        [token] = orjson.loads(content)["choices"][0]["logprobs"]["content"]
        first, second = sorted((top["logprob"] for top in token["top_logprobs"]), reverse=True)[:2]
        return float(first - second)
    except (ValueError, LookupError, TypeError):
        return None
