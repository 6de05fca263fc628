"""POST /v1/completions without an SDK."""

from typing import Any

import pytest

from maxgate.prompts.tokenizer import PromptTokenizer
from tests.fakes.gateway import Gateway
from tests.fakes.max_server import OUTPUT_TOKENS
from tests.fakes.sse import DONE, read_events

TEXT = "".join(OUTPUT_TOKENS)


async def complete(gateway: Gateway, **fields: Any) -> Any:
    return await gateway.client.post("/v1/completions", json=fields)


async def test_text(gateway: Gateway, small_tokenizer: PromptTokenizer) -> None:
    """A text is completed; special tokens in it are encoded as text."""
    completion = (await complete(gateway, prompt="Once <|im_end|> upon")).json()
    assert completion.pop("id").startswith("cmpl-")
    assert isinstance(completion.pop("created"), int)
    choice = {"text": TEXT, "index": 0, "logprobs": None, "finish_reason": "stop"}
    assert completion == {
        "object": "text_completion",
        "model": "smollm2-135m-instruct",
        "system_fingerprint": None,
        "choices": [choice],
        "usage": {
            "prompt_tokens": 37,
            "completion_tokens": 8,
            "total_tokens": 45,
            "prompt_tokens_details": {"cached_tokens": 5},
        },
    }
    [request] = gateway.engine.requests
    assert request["prompt"] == small_tokenizer.encode("Once <|im_end|> upon").to_list()
    assert request["max_tokens"] == 16


async def test_token_ids(gateway: Gateway) -> None:
    """Token ids are sent unchanged."""
    assert (await complete(gateway, prompt=[5, 6, 7])).status_code == 200
    assert gateway.engine.requests[0]["prompt"] == [5, 6, 7]


@pytest.mark.parametrize("prompt", [[49152], [[1], [2, 2**31 - 1]]])
async def test_invalid_token_id(gateway: Gateway, prompt: Any) -> None:
    """Ids outside the vocabulary are rejected."""
    response = await complete(gateway, prompt=prompt)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "prompt")
    assert "below 49152" in error["message"]


async def test_several_prompts(gateway: Gateway) -> None:
    """Choices are numbered by prompt, and usage is summed."""
    completion = (await complete(gateway, prompt=["one", "two"], n=2, echo=True)).json()
    assert [(c["index"], c["text"]) for c in completion["choices"]] == [
        (0, "one" + TEXT),
        (1, "one" + TEXT),
        (2, "two" + TEXT),
        (3, "two" + TEXT),
    ]
    usage = completion["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (74, 32)


async def test_streamed_prompts(gateway: Gateway) -> None:
    """Several prompts are streamed together."""
    options = {"include_usage": True}
    response = await complete(gateway, prompt=["a", "b"], stream=True, stream_options=options)
    *chunks, done = read_events(response.text)
    texts = {0: "", 1: ""}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        texts[choice["index"]] += choice["text"]
    assert (texts, done) == ({0: TEXT, 1: TEXT}, DONE)
    assert chunks[-1]["usage"]["total_tokens"] == 90


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
        ({"prompt": "a", "logit_bias": {"5": 1}}, "logit_bias"),
        ({"prompt": "a", "echo": True, "logprobs": 1}, "echo"),
        ({"prompt": [1], "echo": True}, "echo"),
        ({"prompt": ["a"] * 100, "n": 2}, "n"),
        ({"prompt": "a", "logprobs": 6}, "logprobs"),
        ({"prompt": "a", "stream_options": {}}, "stream_options"),
    ],
)
async def test_unsupported_fields(gateway: Gateway, fields: dict[str, Any], param: str) -> None:
    """Unsupported and invalid parameters are named, and the engine is not called."""
    response = await complete(gateway, **fields)
    rejected = response.json()["error"]["param"]
    assert (response.status_code, rejected.partition("[")[0].partition(".")[0]) == (400, param)
    assert gateway.engine.requests == []
