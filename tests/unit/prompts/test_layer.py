"""The prompts layer: token ids for the engine, prefix and stop strings for the client."""

from contextlib import aclosing
from math import isnan

import pytest

from maxgate.errors import InvalidRequest
from maxgate.generation.chunk import Alternative, Chunk, TokenLogprob, Usage
from maxgate.generation.errors import ContextLengthExceeded
from maxgate.generation.merge import merge_streams
from maxgate.generation.request import GenerationRequest, TokenIds
from maxgate.prompts.chatml import ChatMLFormat
from maxgate.prompts.layer import PromptLayer
from maxgate.prompts.tokenizer import PromptTokenizer
from tests.fakes.backend import FakeBackend
from tests.fakes.requests import generation_request, served_model


@pytest.fixture
def chatml(small_tokenizer: PromptTokenizer) -> ChatMLFormat:
    return ChatMLFormat(small_tokenizer)


def make_layer(inner: FakeBackend, chatml: ChatMLFormat | None = None) -> PromptLayer:
    return PromptLayer(inner, {} if chatml is None else {"small-on-max": chatml})


async def run(layer: PromptLayer, request: GenerationRequest) -> list[Chunk]:
    async with aclosing(layer.stream(request)) as chunks:
        return [chunk async for chunk in chunks]


async def test_encoding(chatml: ChatMLFormat) -> None:
    """The engine gets token ids and stop tokens; the response passes unchanged."""
    inner = FakeBackend([Chunk("Hi", "stop", Usage(9, 2))])
    request = generation_request("Hello")
    assert await run(make_layer(inner, chatml), request) == [Chunk("Hi", "stop", Usage(9, 2))]
    assert inner.requests == [
        request._replace(prompt_token_ids=chatml.encode(request.messages), stop_token_ids=(2,))
    ]


async def test_engine_formats(chatml: ChatMLFormat) -> None:
    """Requests pass unchanged if the model has no format here, or its card says engine."""
    inner = FakeBackend([Chunk("Hi", "stop", Usage(9, 2))])
    request = generation_request("Hello")
    await run(make_layer(inner), request)
    by_engine = generation_request("Hello", model=served_model(prompt="engine"))
    await run(make_layer(inner, chatml), by_engine)
    assert inner.requests == [request, by_engine]


@pytest.mark.parametrize("raw_prompt", [(1, 2), "text"])
async def test_unsupported_without_tokenizer(raw_prompt: str | tuple[int, ...]) -> None:
    """Token ids and logprobs of a raw prompt need a tokenizer."""
    request = generation_request()._replace(raw_prompt=raw_prompt)
    request = request._replace(sampling=request.sampling._replace(logprobs=0))
    inner = FakeBackend([])
    with pytest.raises(InvalidRequest, match="The gateway has no tokenizer for this model"):
        await run(make_layer(inner), request)
    assert inner.requests == []


async def test_long_text(chatml: ChatMLFormat) -> None:
    """A long text is encoded in a thread, with the same result."""
    inner = FakeBackend([Chunk("Hi", "stop", Usage(9, 2))])
    request = generation_request("A long text. " * 3000, model=served_model(context_length=100_000))
    await run(make_layer(inner, chatml), request)
    assert inner.requests[0].prompt_token_ids == chatml.encode(request.messages)


async def test_long_prompts(small_tokenizer: PromptTokenizer) -> None:
    """Of the prompts of a request that are far too long, two are read at most."""
    read: set[str] = set()
    chatml = ChatMLFormat(small_tokenizer)

    def encode(text: str) -> TokenIds:
        read.add(text[0])
        return small_tokenizer.encode(text)

    chatml.encode_text = encode
    layer = make_layer(FakeBackend([]), chatml)
    request = generation_request(model=served_model(context_length=2000))
    prompts = [request._replace(raw_prompt=letter * 20_000) for letter in "abcdefgh"]
    with pytest.raises(ContextLengthExceeded):
        async for _ in merge_streams([layer.stream(prompt) for prompt in prompts]):
            pass
    assert "a" in read
    assert read <= {"a", "b"}


@pytest.mark.parametrize(
    ("max_tokens", "message"),
    [
        (None, "your messages resulted in 110 tokens"),
        (5, "you requested 115 tokens (110 in the messages, 5 in the completion)"),
    ],
)
async def test_context_exceeded(chatml: ChatMLFormat, max_tokens: int | None, message: str) -> None:
    """A prompt that does not fit is rejected before the engine is called."""
    inner = FakeBackend([])
    request = generation_request("word " * 100, max_tokens=max_tokens)
    with pytest.raises(ContextLengthExceeded) as caught:
        await run(make_layer(inner, chatml), request)
    assert inner.requests == []
    assert caught.value.message == (
        f"This model's maximum context length is 100 tokens. However, {message}. "
        "Please reduce the length of the messages or completion."
    )


async def test_full_context(chatml: ChatMLFormat) -> None:
    """A prompt needs room for at least one token."""
    request = generation_request("Hello")
    length = chatml.encode(request.messages).length
    layer = make_layer(FakeBackend([Chunk("Hi", "length", Usage(1, 1))]), chatml)
    exact = generation_request("Hello", model=served_model(context_length=length + 1))
    assert len(await run(layer, exact)) == 1
    short = generation_request("Hello", model=served_model(context_length=length))
    with pytest.raises(ContextLengthExceeded):
        await run(layer, short)


async def test_prefix(chatml: ChatMLFormat) -> None:
    """The prefix ends the prompt and starts the response."""
    inner = FakeBackend([Chunk("1"), Chunk("}", "stop", Usage(9, 2))])
    request = generation_request("Hello")._replace(prefix='{"a": ')
    assert await run(make_layer(inner, chatml), request) == [
        Chunk('{"a": 1'),
        Chunk("}", "stop", Usage(9, 2)),
    ]
    assert inner.requests[0].prompt_token_ids == TokenIds.join(
        [chatml.encode(request.messages), chatml.encode_text('{"a": ')]
    )


async def test_prefix_and_stop_string(chatml: ChatMLFormat) -> None:
    """Stop strings and logprobs concern only generated text."""
    inner = FakeBackend([Chunk(text, logprobs=(logprob(text),)) for text in ("1", ",", "2")])
    request = generation_request("Hello", stop=("a", ","))._replace(prefix='{"a": ')
    assert await run(make_layer(inner, chatml), request) == [
        Chunk('{"a": 1', logprobs=(logprob("1"),)),
        Chunk("", "stop"),
    ]


def logprob(token: str) -> TokenLogprob:
    return TokenLogprob(token, -0.5, (Alternative(token, -0.5),))


async def test_token_bytes(chatml: ChatMLFormat, small_tokenizer: PromptTokenizer) -> None:
    """Tokens that are parts of a character get their own bytes, by their ids."""
    ids = small_tokenizer.encode("🦩").to_list()
    parts = [small_tokenizer.token_to_bytes(index) or b"" for index in ids]
    assert (len(ids) > 1, b"".join(parts)) == (True, "🦩".encode())
    known = [
        TokenLogprob(part.decode(errors="replace"), -0.5, id=index)
        for part, index in zip(parts, ids, strict=True)
    ]
    unknown = (TokenLogprob("\ufffd", -0.5), TokenLogprob("\ufffd", -0.5, id=0))
    plain = TokenLogprob("a", -0.5, id=ids[0])
    inner = FakeBackend([Chunk("a🦩", "stop", logprobs=(plain, *known, *unknown))])
    request = generation_request("Hello")
    request = request._replace(sampling=request.sampling._replace(logprobs=0))
    added = [one._replace(data=part) for one, part in zip(known, parts, strict=True)]
    assert await run(make_layer(inner, chatml), request) == [
        Chunk("a🦩", "stop", logprobs=(plain, *added, *unknown))
    ]


async def test_prompt_logprobs(chatml: ChatMLFormat, small_tokenizer: PromptTokenizer) -> None:
    """The prompt's first token is added, without a logprob; parts of characters get their bytes."""
    first, *others = small_tokenizer.encode("🦩").to_list()
    data = [small_tokenizer.token_to_bytes(index) or b"" for index in (first, *others)]
    reported = [
        TokenLogprob(part.decode(errors="replace"), -0.5, id=index)
        for part, index in zip(data[1:], others, strict=True)
    ]
    inner = FakeBackend([Chunk("a", "length", prompt_logprobs=tuple(reported))])
    request = generation_request()
    request = request._replace(
        raw_prompt=(first, *others),
        prompt_logprobs=True,
        sampling=request.sampling._replace(logprobs=0),
    )
    [chunk] = await run(make_layer(inner, chatml), request)
    start, *rest = chunk.prompt_logprobs
    assert (start.id, start.data, isnan(start.logprob), start.top) == (first, data[0], True, ())
    assert rest == [one._replace(data=part) for one, part in zip(reported, data[1:], strict=True)]


async def test_token_bytes_with_stop_string() -> None:
    """Logprobs are shown up to the stop string, also those of parts of a character."""
    parts = [TokenLogprob("\ufffd", -0.5, data=bytes([byte])) for byte in "é".encode()]
    inner = FakeBackend([Chunk("é", logprobs=tuple(parts)), Chunk("#", logprobs=(logprob("#"),))])
    assert await run(make_layer(inner), generation_request(stop=("#",))) == [
        Chunk("é", logprobs=tuple(parts)),
        Chunk("", "stop"),
    ]


async def test_stop_string() -> None:
    """The response ends before the stop string, and the engine's stream is closed."""
    inner = FakeBackend(
        [
            Chunk("The capital", usage=Usage(9, 2)),
            Chunk(" is Par", usage=Usage(9, 4)),
            Chunk("is.", usage=Usage(9, 5)),
            Chunk(" More", usage=Usage(9, 6)),
        ]
    )
    assert await run(make_layer(inner), generation_request(stop=("Paris",))) == [
        Chunk("The capital", usage=Usage(9, 2)),
        Chunk(" is ", usage=Usage(9, 4)),
        Chunk("", "stop", Usage(9, 5)),
    ]
    assert (inner.ended, inner.requests[0].stream) == (1, True)


async def test_incomplete_stop_string() -> None:
    """Text that was held back is shown when the response ends otherwise."""
    inner = FakeBackend([Chunk("a#"), Chunk("", "stop"), Chunk(usage=Usage(1, 3))])
    assert await run(make_layer(inner), generation_request(stop=("##",))) == [
        Chunk("a"),
        Chunk("#", "stop"),
        Chunk("", None, Usage(1, 3)),
    ]


async def test_echo(chatml: ChatMLFormat) -> None:
    """The first chunk starts with the raw prompt, with and without a chat format."""
    request = generation_request()._replace(raw_prompt="Hello", echo=True)
    for formats in (chatml, None):
        inner = FakeBackend([Chunk(" you"), Chunk(" all", "stop", Usage(9, 2))])
        chunks = await run(make_layer(inner, formats), request)
        assert [chunk.text for chunk in chunks] == ["Hello you", " all"]


async def test_echo_of_token_ids(chatml: ChatMLFormat) -> None:
    """The text of token ids comes from their logprobs."""
    tokens = (TokenLogprob("Hel", -1.0), TokenLogprob("lo", -1.0))  # codespell:ignore
    inner = FakeBackend([Chunk("!", "stop", Usage(2, 1), prompt_logprobs=tokens)])
    request = generation_request()._replace(raw_prompt=(1, 2), echo=True)
    [chunk] = await run(make_layer(inner, chatml), request)
    assert chunk.text == "Hello!"
