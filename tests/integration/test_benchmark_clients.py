"""Requests of other load generators, in the shapes that they send."""

from typing import Any

import pytest

from tests.fakes.gateway import Gateway
from tests.fakes.sse import DONE, read_events

MODEL = "smollm2-135m-instruct"
QUESTION = "How tall is the Eiffel Tower?"
RUNNING = {"include_usage": True, "continuous_usage_stats": True}

CLIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "max benchmark 26.7, modular-chat": (
        "/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}],
            "stream_options": {"include_usage": True},
            "ignore_eos": True,
            "max_tokens": 16,
            "temperature": 0.5,
            "top_k": 40,
            "top_p": 0.9,
        },
    ),
    "max benchmark 26.7, modular": (
        "/v1/completions",
        {"prompt": QUESTION, "best_of": 1, "ignore_eos": True, "max_tokens": 16},
    ),
    "guidellm 0.8.1, chat": (
        "/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}],
            "stream_options": RUNNING,
            "max_completion_tokens": 16,
            "stop": None,
            "ignore_eos": True,
        },
    ),
    "guidellm 0.8.1, text": (
        "/v1/completions",
        {
            "prompt": QUESTION,
            "stream_options": RUNNING,
            "max_tokens": 16,
            "stop": None,
            "ignore_eos": True,
        },
    ),
}


@pytest.mark.parametrize(("path", "fields"), CLIENTS.values(), ids=CLIENTS)
async def test_stream(gateway: Gateway, path: str, fields: dict[str, Any]) -> None:
    """The stream is complete, and the engine generates exactly the tokens asked for."""
    body = {"model": MODEL, "stream": True, **fields}
    response = await gateway.client.post(path, json=body)
    *events, done = read_events(response.text)
    assert (response.status_code, done) == (200, DONE)
    reasons = [choice["finish_reason"] for event in events for choice in event["choices"]]
    assert reasons[-1] == "stop"
    assert ("usage" in events[-1] and not events[-1]["choices"]) == ("stream_options" in fields)
    [request] = gateway.engine.requests
    assert (request["max_tokens"], request["ignore_eos"]) == (16, True)


async def test_reset_of_the_prefix_cache(gateway: Gateway) -> None:
    """`max benchmark` resets MAX's prefix cache before a run, and goes on after a 404."""
    assert (await gateway.client.post("/reset_prefix_cache")).status_code == 404
