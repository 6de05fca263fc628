"""Encode prompts that are long, raw or prefixed, without blocking the event loop."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

from maxgate.errors import InvalidRequest
from maxgate.generation.errors import ContextLengthExceeded
from maxgate.generation.request import GenerationRequest, TokenIds
from maxgate.prompts.chat_format import ChatFormat

# The encoder handles a few megabytes a second: this much takes a few milliseconds.
MAX_CHARACTERS_ON_THE_LOOP: Final = 16_000

# Text of at most 4 characters per token of context is encoded without a check: it may well fit.
# More than 64 per token is refused: reading it all would take too long, and no text has so few.
_UNCHECKED_CHARACTERS_PER_TOKEN: Final = 4
_MAX_CHARACTERS_PER_TOKEN: Final = 64
_PIECE_CHARACTERS: Final = 16_000
_CERTAIN_EXCESS: Final = 2


async def encode_prompt(request: GenerationRequest, chat_format: ChatFormat) -> TokenIds:
    """Encode the request's messages and prefix, or its raw prompt, in a thread if they are long.

    Raises ContextLengthExceeded or InvalidRequest for text that is far too long, and
    InvalidRequest for token ids outside the vocabulary.
    """
    raw, messages = request.raw_prompt, request.messages
    if isinstance(raw, tuple):
        return _check_token_ids(raw, chat_format.vocabulary_size)
    if raw is not None:
        return await _encode_raw_prompt(raw, request, chat_format)
    if chat_format.characters_to_encode(messages) <= MAX_CHARACTERS_ON_THE_LOOP:
        encoded = chat_format.encode(messages)
    else:
        texts = [part for message in messages for part in message.parts]
        encode = partial(chat_format.encode, messages)
        encoded = await _encode_in_thread(request, texts, chat_format.encode_text, encode)
    if request.prefix:
        return TokenIds.join([encoded, chat_format.encode_text(request.prefix)])
    return encoded


async def _encode_raw_prompt(
    raw: str, request: GenerationRequest, chat_format: ChatFormat
) -> TokenIds:
    encode = chat_format.encode_special if request.parse_special else chat_format.encode_text
    if len(raw) <= MAX_CHARACTERS_ON_THE_LOOP:
        encoded = encode(raw)
    else:
        encoded = await _encode_in_thread(request, [raw], encode, partial(encode, raw))
    begin = chat_format.begin
    if request.parse_special and (encoded.json + b",").startswith(begin.json + b","):
        return encoded  # the text has brought the token itself
    return TokenIds.join([begin, encoded])


async def _encode_in_thread(
    request: GenerationRequest,
    texts: Sequence[str],
    encode_text: Callable[[str], TokenIds],
    encode: Callable[[], TokenIds],
) -> TokenIds:
    """Check the length of the texts, and call `encode`.

    The prompts of one client request take turns: after one that is too long, at most one more is
    read, and not all 128.
    """
    context = request.context
    if context.encoding is None:
        context.encoding = asyncio.Lock()
    async with context.encoding:
        await _check_in_thread(request, texts, encode_text)
        return await asyncio.to_thread(encode)


def _check_token_ids(ids: tuple[int, ...], vocabulary_size: int) -> TokenIds:
    # MAX accepts any number and crashes on one outside the vocabulary.
    if any(token >= vocabulary_size for token in ids):
        raise InvalidRequest(
            f"Invalid value for 'prompt': token ids of this model are below {vocabulary_size}.",
            param="prompt",
            code="invalid_value",
        )
    return TokenIds.of(list(ids))


def check_stop_token_ids(request: GenerationRequest, vocabulary_size: int) -> None:
    """Raise InvalidRequest for stop tokens outside the vocabulary."""
    # To apply `min_tokens`, MAX masks their logits, without a check.
    if any(token >= vocabulary_size for token in request.sampling.stop_token_ids):
        raise InvalidRequest(
            "Invalid value for 'stop_token_ids': token ids of this model are below "
            f"{vocabulary_size}.",
            param="stop_token_ids",
            code="invalid_value",
        )


def check_engine_can_format(request: GenerationRequest) -> None:
    """Raise InvalidRequest for what needs a tokenizer, for a model without one here."""
    if request.raw_prompt is not None and (
        not isinstance(request.raw_prompt, str) or request.sampling.logprobs is not None
    ):
        raise InvalidRequest(
            "The gateway has no tokenizer for this model: 'prompt' must be a string and 'logprobs' "
            "is not supported. Its operator can add a model card.",
            param="prompt" if not isinstance(request.raw_prompt, str) else "logprobs",
            code="unsupported_parameter",
        )
    if request.sampling.stop_token_ids and request.sampling.min_tokens:
        raise InvalidRequest(
            "The gateway has no tokenizer for this model, so it cannot check the ids: "
            "'stop_token_ids' is not supported together with 'min_tokens'.",
            param="stop_token_ids",
            code="unsupported_parameter",
        )


async def _check_in_thread(
    request: GenerationRequest, texts: Sequence[str], encode: Callable[[str], TokenIds]
) -> None:
    def count(text: str) -> int:
        return encode(text).length

    param = "messages" if request.raw_prompt is None else "prompt"
    limit = request.model.context_length
    await asyncio.to_thread(check_length, texts, count, limit=limit, param=param)


def check_length(
    texts: Sequence[str], count: Callable[[str], int], *, limit: int, param: str
) -> None:
    """Raise ContextLengthExceeded as soon as a prefix of the texts has over twice `limit` tokens.

    `count` returns the number of tokens of a text. It is called for pieces, which together have a
    few more tokens than the whole text: hence the factor. Raises InvalidRequest for text that is
    very long and has fewer tokens.
    """
    characters, max_characters = sum(map(len, texts)), limit * _MAX_CHARACTERS_PER_TOKEN
    if characters <= limit * _UNCHECKED_CHARACTERS_PER_TOKEN:
        return
    tokens = 0
    for piece in _split(texts, max_characters):
        tokens += count(piece)
        if tokens > limit * _CERTAIN_EXCESS:
            raise ContextLengthExceeded(
                limit=limit, prompt_tokens=tokens, max_tokens=None, param=param, exact=False
            )
    if characters > max_characters:
        raise InvalidRequest(
            f"Invalid value for '{param}': it has {characters} characters; this model accepts at "
            f"most {max_characters}.",
            param=param,
            code="string_above_max_length",
        )


def _split(texts: Iterable[str], max_characters: int) -> Iterator[str]:
    """Split the first `max_characters` characters into pieces."""
    for text in texts:
        for start in range(0, min(len(text), max_characters), _PIECE_CHARACTERS):
            yield text[start : min(start + _PIECE_CHARACTERS, max_characters)]
        max_characters -= min(len(text), max_characters)
