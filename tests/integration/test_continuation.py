"""A break at any token leaves no trace: the client sees what it sees without one."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.gateway import Gateway
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.sse import read_events
from tests.integration.test_failover import start_two

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
WORDS = ("The", " quick", " brown", " fox", " jumps", ".")
# Tokens without text are parts of the character that follows.
BYTES = ("Grüße", "", "", "🙂", " à", "", "é", "", "", "", "👩‍🚀", "!")
CALL = ('{"name":', ' "weath', "er", '", "parameters"', ': {"city"', ': "', "Pa", "ris", '"}}')
CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "plain": (WORDS, {}),
    "token limit": (WORDS, {"max_tokens": 6}),
    "several bytes": (BYTES, {}),
    "stop string": (WORDS, {"stop": ["n fox j"]}),
    "stop string that is not there": (WORDS, {"stop": ["fox!", "jumps. "]}),
    "tool call": (CALL, {"tools": [TOOL]}),
    "text with tools": (WORDS, {"tools": [TOOL]}),
    "logprobs": (WORDS, {"logprobs": True, "top_logprobs": 1}),
    "logprobs of several bytes": (BYTES, {"logprobs": True, "top_logprobs": 1}),
    "two choices": (WORDS, {"n": 2}),
    "two choices with all": (BYTES, {"n": 2, "logprobs": True, "stop": ["é👩"]}),
    "sampled": (WORDS, {"temperature": 1, "seed": 7}),
}
BREAKS = ("cut_after", "error_after", "garbage_after")


async def send(gateway: Gateway, **fields: Any) -> dict[str, Any]:
    """Return the parts of a stream that do not depend on how it is divided into chunks."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    response = await gateway.chat(**options, **fields)
    *chunks, last = read_events(response.text)
    assert last == "[DONE]", last
    assert len({chunk["id"] for chunk in chunks}) == 1
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    found: dict[str, Any] = {"usage": chunks[-1]["usage"]}
    for index in range(fields.get("n", 1)):
        own = [choice for choice in choices if choice["index"] == index]
        calls = [call for c in own for call in c["delta"].get("tool_calls") or ()]
        found[f"choice {index}"] = {
            "content": "".join(c["delta"].get("content") or "" for c in own),
            "names": [call["function"].get("name") for call in calls if "id" in call],
            "arguments": "".join(call["function"]["arguments"] for call in calls),
            "logprobs": [p for c in own for p in (c.get("logprobs") or {}).get("content") or ()],
            "reasons": [c["finish_reason"] for c in own if c["finish_reason"]],
        }
    return found


@pytest.mark.parametrize("case", CASES)
async def test_break_at_every_token(case: str) -> None:
    """Text, tool calls, logprobs, finish reason and usage do not depend on a break."""
    tokens, fields = CASES[case]
    reason = "length" if "max_tokens" in fields else "stop"
    scripts: list[Script] = []
    engines = FakeMax(scripts=scripts), FakeMax(scripts=scripts)
    breaker = {"consecutive_failures": 1000, "failure_share": 1}
    async with start_two(*engines, breaker=breaker) as gateway:

        async def send_with(**failure: int) -> dict[str, Any]:
            count = fields.get("n", 1)
            whole = Script(tokens=tokens, finish_reason=reason, counts_prompt=True)
            broken = replace(whole, **failure)
            scripts[:] = [broken] * count + [whole] * count
            return await send(gateway, **fields)

        expected = await send_with()
        for failure in BREAKS:
            for position in range(1, len(tokens)):
                assert await send_with(**{failure: position}) == expected, (failure, position)


def test_cases() -> None:
    """The cases contain what they are named after."""
    assert "".join(CALL) == json.dumps({"name": "weather", "parameters": {"city": "Paris"}})
