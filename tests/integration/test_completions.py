"""POST /v1/completions without an SDK."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from maxgate.prompts.tokenizer import PromptTokenizer
from tests.fakes.gateway import SMALL_CARD, Gateway, StartGateway, start
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax, Script
from tests.fakes.sse import DONE, read_events
from tests.fakes.waiting import until

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


TEMPLATE = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


async def test_parsed_special_tokens(gateway: Gateway, small_model: Path) -> None:
    """With `parse_special`, names of special tokens become those tokens."""
    assert (await complete(gateway, prompt=TEMPLATE, parse_special=True)).status_code == 200
    tokenizer = Tokenizer.from_file(str(small_model / "tokenizer.json"))
    assert gateway.engine.requests[0]["prompt"] == tokenizer.encode(TEMPLATE).ids


@pytest.mark.parametrize("parse_special", [None, True, False])
async def test_parsing_card(
    start_gateway: StartGateway,
    small_tokenizer: PromptTokenizer,
    tmp_path: Path,
    *,
    parse_special: bool | None,
) -> None:
    """The model card has the default of `parse_special`."""
    card = tmp_path / "card.yaml"
    card.write_text(SMALL_CARD.read_text() + "\nparse_special: true\n")
    async with start_gateway(cards=[card]) as gateway:
        await complete(gateway, prompt=TEMPLATE * 2000, parse_special=parse_special)
        await complete(gateway, prompt=TEMPLATE, parse_special=parse_special)
    *_, request = gateway.engine.requests
    encode = small_tokenizer.encode if parse_special is False else small_tokenizer.encode_special
    assert request["prompt"] == encode(TEMPLATE).to_list()


async def test_parsing_engine(start_gateway: StartGateway) -> None:
    """An engine that encodes prompts itself parses special tokens in any case."""
    async with start_gateway(FakeMax(models=["other"])) as gateway:
        parsed = [
            await complete(gateway, prompt=TEMPLATE, parse_special=value)
            for value in (None, True, False)
        ]
    assert [response.status_code for response in parsed] == [200, 200, 400]
    assert parsed[-1].json()["error"]["param"] == "parse_special"


async def test_default_max_tokens(gateway: Gateway) -> None:
    """Without `max_tokens`, and with null, at most 16 tokens are generated."""
    await complete(gateway, prompt="a")
    await complete(gateway, prompt="a", max_tokens=None)
    assert [request["max_tokens"] for request in gateway.engine.requests] == [16, 16]


async def test_loglikelihood(gateway: Gateway) -> None:
    """The refusal of lm-eval's loglikelihood requests names their cause."""
    error = (await complete(gateway, prompt="a", echo=True, logprobs=1, max_tokens=0)).json()
    assert "start MAX with --enable-echo" in error["error"]["message"]
    assert error["error"]["code"] == "unsupported_parameter"


@pytest.fixture
async def echoing(start_gateway: StartGateway, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Start a gateway whose engine returns logprobs of prompts."""
    card = tmp_path / "card.yaml"
    flags = SMALL_CARD.read_text().replace("[--enable-penalties]", "[]")
    card.write_text(flags + "\nprompt_logprobs: true\n")
    async with start_gateway(cards=[card]) as gateway:
        yield gateway


# As lm-eval's `local-completions` sends them.
LOGLIKELIHOOD = {"temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}


@pytest.mark.parametrize("stream", [False, True])
async def test_prompt_logprobs(
    echoing: Gateway, small_tokenizer: PromptTokenizer, *, stream: bool
) -> None:
    """Logprobs of prompts start with a null; prompts of token ids are echoed as text."""
    echoing.engine.scripts += [Script(tokens=["!"], finish_reason="length")] * 2
    ids = small_tokenizer.encode("héllo world").to_list()
    assert len(ids) == 4
    response = await complete(echoing, prompt=[ids, ids], stream=stream, **LOGLIKELIHOOD)
    parts = read_events(response.text)[:-1] if stream else [response.json()]
    choices = sorted(
        [choice for part in parts for choice in part["choices"]], key=lambda choice: choice["index"]
    )
    assert choices == [
        {
            "text": "h" + "".join(f"#{token}" for token in ids[1:]) + "!",
            "index": index,
            "logprobs": {
                "tokens": ["h", *(f"#{token}" for token in ids[1:]), "!"],
                "token_logprobs": [None, -0.25, -0.25, -0.25, -0.5],
                "top_logprobs": [None, *({f"#{token}": -0.25} for token in ids[1:]), {"!": -0.5}],
                "text_offset": [0, 1, 6, 12, 16],
            },
            "finish_reason": "length",
        }
        for index in (0, 1)
    ]


async def test_prompt_alone(echoing: Gateway) -> None:
    """With `max_tokens` 0, the response is the prompt, with its logprobs."""
    fields = {**LOGLIKELIHOOD, "max_tokens": 0, "logprobs": 0}
    response = (await complete(echoing, prompt="Hi", **fields)).json()
    [choice] = response["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("Hi", "length")
    assert choice["logprobs"]["token_logprobs"] == [None]
    assert response["usage"]["completion_tokens"] == 0


async def test_prompt_logprobs_with_stop(echoing: Gateway) -> None:
    """Stop strings are rejected: a response with logprobs of the prompt is not streamed."""
    response = await complete(echoing, prompt="a", stop="b", **LOGLIKELIHOOD)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "stop")


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
        ({"prompt": "a", "echo": True, "max_tokens": 0}, "max_tokens"),
        ({"prompt": [1], "echo": True}, "echo"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "a", "parse_special": "yes"}, "parse_special"),
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


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, 32),
        ({"max_calls_per_request": 3}, 3),
        ({"max_calls_per_request": 3, "max_connections": 2}, 2),
    ],
)
async def test_concurrent_calls(settings: dict[str, int], limit: int) -> None:
    """The engine calls of one request take turns, over all prompts and choices."""
    begins, engine = asyncio.Event(), FakeMax()
    engine.scripts = [Script(begins=begins) for _ in range(64)]
    async with start(engine, upstream=settings) as gateway:
        body = {"prompt": ["a"] * 8, "n": 8}
        sending = asyncio.create_task(gateway.client.post("/v1/completions", json=body))

        async def is_full() -> bool:
            return engine.running == limit

        await until(is_full)
        begins.set()
        choices = (await sending).json()["choices"]
    assert [choice["index"] for choice in choices] == list(range(64))
    assert engine.most_running == limit


async def test_other_clients() -> None:
    """Clients with many choices leave connections for others, who never wait for them."""
    begins, engine = asyncio.Event(), FakeMax()
    engine.scripts = [Script(begins=begins) for _ in range(8)]
    upstream = {"max_calls_per_request": 4, "max_connections": 10}
    async with start(engine, upstream=upstream) as gateway:
        body = {"prompt": "a", "n": 128}
        many = [
            asyncio.create_task(gateway.client.post("/v1/completions", json=body)) for _ in range(2)
        ]

        async def is_full() -> bool:
            return engine.running == 8

        await until(is_full)
        other = await gateway.client.post("/v1/completions", json={"prompt": "a"})
        begins.set()
        responses = await asyncio.gather(*many)
    assert other.status_code == 200
    assert [len(response.json()["choices"]) for response in responses] == [128, 128]


async def test_no_connection_left() -> None:
    """Without a free connection, a request gets a 503 at once that says when to retry."""
    begins, engine = asyncio.Event(), FakeMax()
    engine.scripts = [Script(begins=begins)]
    async with start(engine, upstream={"max_connections": 1}) as gateway:
        first = asyncio.create_task(gateway.client.post("/v1/completions", json={"prompt": "a"}))
        await engine.arrived.wait()
        refused = await gateway.client.post("/v1/completions", json={"prompt": "a"})
        begins.set()
        assert (await first).status_code == 200
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert refused.json()["error"]["code"] == "server_is_overloaded"
