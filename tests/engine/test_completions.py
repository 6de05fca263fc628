"""Completions, several answers, logprobs and JSON on the real engine."""

import json

import openai
import pytest

from maxgate.prompts.tokenizer import PromptTokenizer
from tests.engine.real_gateway import RealGateway

pytestmark = pytest.mark.engine

MODEL = "smollm2"
PARIS = "The capital of France is"


@pytest.fixture
def client(real_gateway: RealGateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=real_gateway.url + "/v1", api_key="none", max_retries=0)


def test_text_and_its_ids_are_continued_alike(
    client: openai.OpenAI, small_tokenizer: PromptTokenizer
) -> None:
    prompts = [PARIS, small_tokenizer.encode(PARIS).to_list()]
    texts = [
        client.completions.create(model=MODEL, prompt=prompt, temperature=0, max_tokens=6)
        .choices[0]
        .text
        for prompt in prompts
    ]
    assert texts[0] == texts[1]
    assert "Paris" in texts[0]


def test_several_prompts_are_answered_in_order(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=[PARIS, "2 + 2 ="], temperature=0, max_tokens=4, n=2, echo=True
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text.startswith(PARIS) for choice in answer.choices] == [
        True,
        True,
        False,
        False,
    ]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


def test_log_probabilities_are_those_of_the_text(client: openai.OpenAI) -> None:
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


def test_json_that_is_asked_for_fits_its_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
        "required": ["city", "country"],
    }
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Name the capital of France and its country."}],
        temperature=0,
        max_tokens=60,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "place", "schema": schema},
        },
    )
    found = json.loads(answer.choices[0].message.content or "")
    assert (found["city"], found.keys()) == ("Paris", {"city", "country"})


def test_penalties_change_what_is_said(client: openai.OpenAI) -> None:
    def say(penalty: float) -> str:
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

    assert say(0) != say(2)
