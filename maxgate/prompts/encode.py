"""A request's prompt as token ids: at once where that is quick, beside the event loop where not."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from maxgate.errors import InvalidRequest
from maxgate.generation.errors import ContextLengthExceeded
from maxgate.generation.request import GenerationRequest, Message, TokenIds
from maxgate.prompts.chat_format import ChatFormat

# Less than this is encoded as it is; more cannot be meant.
_FEW_CHARACTERS_PER_TOKEN: Final = 4
_MOST_CHARACTERS_PER_TOKEN: Final = 64
_PIECE: Final = 16_000
_MORE_THAN_ENOUGH: Final = 2


def check_length(
    texts: Iterable[str], count: Callable[[str], int], *, limit: int, param: str
) -> None:
    """Raise ContextLengthExceeded where the beginning alone has twice as many tokens as `limit`.

    `count` says how many tokens a text has. Text is counted in pieces, which have a few more tokens
    than the whole. Raises InvalidRequest for text that is long without having that many.
    """
    texts = list(texts)
    characters, longest = sum(map(len, texts)), limit * _MOST_CHARACTERS_PER_TOKEN
    if characters <= limit * _FEW_CHARACTERS_PER_TOKEN:
        return
    tokens = 0
    for piece in _pieces(texts, longest):
        tokens += count(piece)
        if tokens > limit * _MORE_THAN_ENOUGH:
            raise ContextLengthExceeded(
                limit=limit, prompt_tokens=tokens, max_tokens=None, param=param, exact=False
            )
    if characters > longest:
        raise InvalidRequest(
            f"Invalid value for '{param}': it has {characters} characters; this model takes at "
            f"most {longest}.",
            param=param,
            code="string_above_max_length",
        )


def _pieces(texts: Iterable[str], most: int) -> Iterator[str]:
    """The first `most` characters."""
    for text in texts:
        for start in range(0, min(len(text), most), _PIECE):
            yield text[start : min(start + _PIECE, most)]
        most -= min(len(text), most)


# Encoding runs at a few megabytes a second: this much takes a few milliseconds.
_CHARACTERS_ON_THE_LOOP = 16_000


def is_quick(request: GenerationRequest) -> bool:
    """Whether `prompted_at_once` may be used: a short dialogue without calls of tools."""
    messages = request.messages
    return request.raw_prompt is None and _is_short(messages) and not any(m.calls for m in messages)


def prompted_at_once(request: GenerationRequest, chat_format: ChatFormat) -> GenerationRequest:
    """The request with its dialogue as the prompt.

    Raises ContextLengthExceeded where prompt and `max_tokens` do not fit.
    """
    return _with_prompt(request, chat_format.encode(request.messages), chat_format)


async def prompted(request: GenerationRequest, chat_format: ChatFormat | None) -> GenerationRequest:
    """The request with its dialogue or text as the prompt; without a format, as it came.

    Raises ContextLengthExceeded where prompt and `max_tokens` do not fit, and InvalidRequest for
    text that is far too long, for token ids that the model does not have, and for what a model
    without a format cannot be asked.
    """
    if chat_format is None:
        _check_is_text(request)
        return request
    if request.raw_prompt is None:
        prompt = await _encoded(request, chat_format)
        if request.prefix:
            prompt = TokenIds.join([prompt, chat_format.encode_text(request.prefix)])
    else:
        prompt = await _raw_prompt(request, request.raw_prompt, chat_format)
    return _with_prompt(request, prompt, chat_format)


async def _encoded(request: GenerationRequest, chat_format: ChatFormat) -> TokenIds:
    messages = request.messages
    if _is_short(messages) or chat_format.characters_to_encode(messages) <= _CHARACTERS_ON_THE_LOOP:
        return chat_format.encode(messages)
    texts = [part for message in messages for part in message.parts]
    await asyncio.to_thread(_check_length, request, texts, chat_format)
    return await asyncio.to_thread(chat_format.encode, messages)


def _is_short(messages: Sequence[Message]) -> bool:
    return sum([len(p) for m in messages for p in m.parts]) <= _CHARACTERS_ON_THE_LOOP


async def _raw_prompt(
    request: GenerationRequest, text: str | tuple[int, ...], chat_format: ChatFormat
) -> TokenIds:
    if isinstance(text, str):
        if len(text) <= _CHARACTERS_ON_THE_LOOP:
            return TokenIds.join([chat_format.begin, chat_format.encode_text(text)])
        await asyncio.to_thread(_check_length, request, [text], chat_format)
        encoded = await asyncio.to_thread(chat_format.encode_text, text)
        return TokenIds.join([chat_format.begin, encoded])
    limit = chat_format.vocabulary_size
    # MAX takes any number, and dies of one that is no token.
    if any(token >= limit for token in text):
        raise InvalidRequest(
            f"Invalid value for 'prompt': token ids of this model are below {limit}.",
            param="prompt",
            code="invalid_value",
        )
    return TokenIds.of(list(text))


def _check_is_text(request: GenerationRequest) -> None:
    if request.raw_prompt is not None and (
        not isinstance(request.raw_prompt, str) or request.sampling.logprobs is not None
    ):
        raise InvalidRequest(
            "This model's tokenizer is not known to the gateway, so that its prompt has to be text "
            "and 'logprobs' cannot be told. Its operator can give it a model card.",
            param="prompt" if not isinstance(request.raw_prompt, str) else "logprobs",
            code="unsupported_parameter",
        )


def _check_length(
    request: GenerationRequest, texts: Sequence[str], chat_format: ChatFormat
) -> None:
    def count(text: str) -> int:
        return chat_format.encode_text(text).length

    check_length(texts, count, limit=request.model.context_length, param=_param(request))


def _param(request: GenerationRequest) -> str:
    return "messages" if request.raw_prompt is None else "prompt"


def _with_prompt(
    request: GenerationRequest, prompt: TokenIds, chat_format: ChatFormat
) -> GenerationRequest:
    limit, asked = request.model.context_length, request.sampling.max_tokens
    if prompt.length + (asked or 1) > limit:
        raise ContextLengthExceeded(
            limit=limit, prompt_tokens=prompt.length, max_tokens=asked, param=_param(request)
        )
    return request._replace(prompt_token_ids=prompt, stop_token_ids=chat_format.stop_token_ids)
