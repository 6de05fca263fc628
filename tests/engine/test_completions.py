"""Completions, several choices, logprobs and JSON on the real engine."""

import json
from collections.abc import Iterator

import openai
import pytest

from maxgate.prompts.tokenizer import PromptTokenizer
from tests.engine.real_gateway import RealGateway

pytestmark = pytest.mark.engine

MODEL = "smollm2"
PARIS = "The capital of France is"


@pytest.fixture
def client(real_gateway: RealGateway) -> Iterator[openai.OpenAI]:
    """OpenAI's client, without retries."""
    url = f"{real_gateway.url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def test_text_and_token_ids(client: openai.OpenAI, small_tokenizer: PromptTokenizer) -> None:
    """A text and its token ids get the same completion."""
    prompts = [PARIS, small_tokenizer.encode(PARIS).to_list()]
    texts = [
        client.completions.create(model=MODEL, prompt=prompt, temperature=0, max_tokens=6)
        .choices[0]
        .text
        for prompt in prompts
    ]
    assert texts[0] == texts[1]
    assert "Paris" in texts[0]


def test_several_prompts(client: openai.OpenAI) -> None:
    """Choices come in the order of the prompts, and usage is summed."""
    completion = client.completions.create(
        model=MODEL, prompt=[PARIS, "2 + 2 ="], temperature=0, max_tokens=4, n=2, echo=True
    )
    assert [choice.index for choice in completion.choices] == [0, 1, 2, 3]
    assert [choice.text.startswith(PARIS) for choice in completion.choices] == [
        True,
        True,
        False,
        False,
    ]
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 16


def test_logprobs(client: openai.OpenAI) -> None:
    """The tokens with log probabilities make up the text."""
    message: list[openai.types.chat.ChatCompletionMessageParam] = [
        {"role": "user", "content": "What is the capital of France?"}
    ]
    whole = client.chat.completions.create(
        model=MODEL, messages=message, temperature=0, logprobs=True, top_logprobs=3
    ).choices[0]
    assert whole.logprobs is not None
    tokens = whole.logprobs.content or []
    assert "".join(token.token for token in tokens) == whole.message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in tokens)


def test_json_output(client: openai.OpenAI) -> None:
    """JSON output matches its schema."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
        "required": ["city", "country"],
    }
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Name the capital of France and its country."}],
        temperature=0,
        max_tokens=60,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "place", "schema": schema},
        },
    )
    place = json.loads(completion.choices[0].message.content or "")
    assert (place["city"], place.keys()) == ("Paris", {"city", "country"})


def test_penalties(client: openai.OpenAI) -> None:
    """A frequency penalty changes the output."""

    def complete(penalty: float) -> str:
        return (
            client.completions.create(
                model=MODEL,
                prompt="a a a a a a a a",
                temperature=0,
                max_tokens=12,
                frequency_penalty=penalty,
            )
            .choices[0]
            .text
        )

    assert complete(0) != complete(2)
