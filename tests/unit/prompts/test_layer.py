"""The prompts layer: ids before, no stop strings after, and no engine for what cannot fit."""

from contextlib import aclosing

import pytest

from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.errors import ContextLengthExceeded
from maxgate.generation.request import GenerationRequest, TokenIds
from maxgate.prompts.chatml import ChatMLFormat
from maxgate.prompts.layer import PromptLayer
from maxgate.prompts.tokenizer import PromptTokenizer
from tests.fakes.backend import FakeBackend
from tests.fakes.requests import generation_request, served_model


@pytest.fixture
def chatml(small_tokenizer: PromptTokenizer) -> ChatMLFormat:
    return ChatMLFormat(small_tokenizer)


async def run(layer: PromptLayer, request: GenerationRequest) -> list[Chunk]:
    async with aclosing(layer.stream(request)) as chunks:
        return [chunk async for chunk in chunks]


async def test_the_engine_gets_ids_and_the_tokens_to_stop_at(chatml: ChatMLFormat) -> None:
    inner = FakeBackend([Chunk("Hi", "stop", Usage(9, 2))])
    request = generation_request("Hello")
    assert await run(PromptLayer(inner, lambda _: chatml), request) == [
        Chunk("Hi", "stop", Usage(9, 2))
    ]
    [asked] = inner.requests
    assert (asked.prompt_token_ids, asked.stop_token_ids) == (chatml.encode(request.messages), (2,))


async def test_a_model_without_a_format_is_passed_on_as_it_came() -> None:
    inner = FakeBackend([Chunk("Hi", "stop", Usage(9, 2))])
    request = generation_request("Hello")
    await run(PromptLayer(inner, lambda _: None), request)
    assert inner.requests == [request]


async def test_a_long_text_is_encoded_beside_the_event_loop(chatml: ChatMLFormat) -> None:
    text = "A long text. " * 3000
    inner = FakeBackend([Chunk("Hi", "stop", Usage(9, 2))])
    request = generation_request(text, model=served_model(context_length=100_000))
    await run(PromptLayer(inner, lambda _: chatml), request)
    assert inner.requests[0].prompt_token_ids == chatml.encode(request.messages)


@pytest.mark.parametrize(
    ("max_tokens", "message"),
    [
        (None, "your messages resulted in 110 tokens"),
        (5, "you requested 115 tokens (110 in the messages, 5 in the completion)"),
    ],
)
async def test_what_does_not_fit_is_refused_before_the_engine_is_asked(
    chatml: ChatMLFormat, max_tokens: int | None, message: str
) -> None:
    inner = FakeBackend([])
    request = generation_request("word " * 100, max_tokens=max_tokens)
    with pytest.raises(ContextLengthExceeded) as caught:
        await run(PromptLayer(inner, lambda _: chatml), request)
    assert inner.requests == []
    assert caught.value.message == (
        f"This model's maximum context length is 100 tokens. However, {message}. "
        "Please reduce the length of the messages or completion."
    )


async def test_a_prompt_that_leaves_room_for_one_token_fits(chatml: ChatMLFormat) -> None:
    request = generation_request("Hello")
    length = chatml.encode(request.messages).length
    layer = PromptLayer(FakeBackend([Chunk("Hi", "length", Usage(1, 1))]), lambda _: chatml)
    exact = generation_request("Hello", model=served_model(context_length=length + 1))
    assert len(await run(layer, exact)) == 1
    short = generation_request("Hello", model=served_model(context_length=length))
    with pytest.raises(ContextLengthExceeded):
        await run(layer, short)


async def test_the_answer_ends_before_the_stop_string_and_lets_the_engine_go() -> None:
    inner = FakeBackend(
        [
            Chunk("The capital", usage=Usage(9, 2)),
            Chunk(" is Par", usage=Usage(9, 4)),
            Chunk("is.", usage=Usage(9, 5)),
            Chunk(" More", usage=Usage(9, 6)),
        ]
    )
    layer = PromptLayer(inner, lambda _: None)
    assert await run(layer, generation_request(stop=("Paris",))) == [
        Chunk("The capital", usage=Usage(9, 2)),
        Chunk(" is ", usage=Usage(9, 4)),
        Chunk("", "stop", Usage(9, 5)),
    ]
    assert (inner.ended, inner.requests[0].stream) == (1, True)


async def test_what_was_held_back_is_shown_when_the_answer_ends_otherwise() -> None:
    inner = FakeBackend([Chunk("a#"), Chunk("", "stop"), Chunk(usage=Usage(1, 3))])
    layer = PromptLayer(inner, lambda _: None)
    assert await run(layer, generation_request(stop=("##",))) == [
        Chunk("a"),
        Chunk("#", "stop"),
        Chunk("", None, Usage(1, 3)),
    ]


def test_ids_are_joined_as_they_go_on_the_wire() -> None:
    pieces = [TokenIds.of([1, 22]), TokenIds.of([]), TokenIds.of([333])]
    joined = TokenIds.join(pieces)
    assert (joined, joined.to_list()) == (TokenIds(b"1,22,333", 3), [1, 22, 333])
