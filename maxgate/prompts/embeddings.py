"""Inputs of embedding models: texts and token arrays to token ids with special tokens."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic
from typing import Final

from tokenizers import Tokenizer

from maxgate.errors import InvalidRequest
from maxgate.generation.backend import Embedder, EmbeddingRequest, Embeddings
from maxgate.generation.catalog import ServedModel
from maxgate.generation.errors import InputTooLong
from maxgate.generation.request import TokenIds
from maxgate.prompts.tokenizer import PromptTokenizer

# Text that is far too long is recognised by its start. Text with few tokens for its length (spaces,
# unknown words) is read as a whole, up to a length that would take too long.
_START_CHARACTERS_PER_TOKEN: Final = 32
_CERTAIN_EXCESS: Final = 2
_MAX_CHARACTERS_PER_TOKEN: Final = 256


class EmbeddingFormat:
    """A model's tokenizer and the special tokens that it puts around every text.

    `max_tokens` is the model's context length, special tokens included. Text cannot spell a special
    token. Methods may be called from any thread.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_tokens: int) -> None:
        before, after = _find_special_tokens(tokenizer)
        self._before, self._after = before, after
        self._padding = _find_padding_ids(tokenizer)
        self._vocabulary_size = tokenizer.get_vocab_size()
        self._tokenizer = PromptTokenizer(tokenizer)
        self._max_tokens = max_tokens

    def encode(self, text: str, index: int) -> TokenIds:
        """Encode a text and add the special tokens; `index` is its place in the request.

        Raises InputTooLong, and InvalidRequest for text that is very long but has few tokens.
        """
        self._check_length(text, index)
        return self._add_special_tokens(self._tokenizer.encode(text), index)

    def _check_length(self, text: str, index: int) -> None:
        start = self._max_tokens * _START_CHARACTERS_PER_TOKEN
        if len(text) <= start:
            return
        tokens = self._tokenizer.encode(text[:start]).length
        if tokens > self._max_tokens * _CERTAIN_EXCESS:
            raise InputTooLong(limit=self._max_tokens, tokens=tokens, index=index, exact=False)
        max_characters = self._max_tokens * _MAX_CHARACTERS_PER_TOKEN
        if len(text) > max_characters:
            raise InvalidRequest(
                f"Invalid value for 'input[{index}]': it has {len(text)} characters; "
                f"this model accepts at most {max_characters}.",
                param=f"input[{index}]",
                code="string_above_max_length",
            )

    def check(self, ids: Sequence[int], index: int) -> TokenIds:
        """Check a token array, and add the special tokens if it lacks them.

        Raises InputTooLong, and InvalidRequest for ids that are not text of the model: MAX crashes
        on one outside the vocabulary and silently ignores padding.
        """
        text = self._strip_special_tokens(ids)
        if len(text) + len(self._before) + len(self._after) <= self._max_tokens:
            for position, token in enumerate(text):
                if not 0 <= token < self._vocabulary_size:
                    allowed = f"0 to {self._vocabulary_size - 1}"
                    raise _reject_token(token, index, position, allowed)
                if token in self._padding:
                    raise _reject_token(token, index, position, "no padding")
        return self._add_special_tokens(TokenIds.of(text), index)

    def _strip_special_tokens(self, ids: Sequence[int]) -> list[int]:
        before, after, ids = self._before, self._after, list(ids)
        end = len(ids) - len(after)
        if end > len(before) and ids[: len(before)] == before and ids[end:] == after:
            return ids[len(before) : end]
        return ids

    def _add_special_tokens(self, ids: TokenIds, index: int) -> TokenIds:
        complete = TokenIds.join([TokenIds.of(self._before), ids, TokenIds.of(self._after)])
        if complete.length > self._max_tokens:
            raise InputTooLong(limit=self._max_tokens, tokens=complete.length, index=index)
        return complete


def _find_special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoding = tokenizer.encode("a")
    mask = encoding.special_tokens_mask
    text = [position for position, is_special in enumerate(mask) if not is_special]
    return encoding.ids[: text[0]], encoding.ids[text[-1] + 1 :]


def _find_padding_ids(tokenizer: Tokenizer) -> frozenset[int]:
    # MAX drops the padding token wherever it occurs.
    found = [tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>")]
    return frozenset(token for token in found if token is not None)


def _reject_token(token: int, index: int, position: int, allowed: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid value for 'input[{index}][{position}]': {token} is not a token id of this "
        f"model's text ({allowed}). Encode token arrays with the model's own tokenizer.",
        param=f"input[{index}][{position}]",
        code="invalid_value",
    )


# Encoding this much takes a few milliseconds; more would block other requests.
_MAX_ITEMS_ON_THE_LOOP: Final = 8_000

FindEmbeddingFormat = Callable[[ServedModel], EmbeddingFormat]


class EmbeddingPromptLayer:
    """Encodes the inputs and counts their tokens.

    Raises InvalidRequest and InputTooLong before the engine is called, and what `find_format`
    raises.
    """

    def __init__(self, inner: Embedder, find_format: FindEmbeddingFormat) -> None:
        self._inner = inner
        self._find_format = find_format

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Embed the inputs, in a thread if they are long to encode."""
        embedding_format = self._find_format(request.model)
        began, trace = monotonic(), request.context.record.trace
        if sum(map(len, request.inputs)) <= _MAX_ITEMS_ON_THE_LOOP:
            prompts = _encode_inputs(request, embedding_format)
        else:
            prompts = await asyncio.to_thread(_encode_inputs, request, embedding_format)
        if trace is not None:
            trace.add_step("prompt", monotonic() - began)
        embeddings = await self._inner.embed(replace(request, prompts=prompts))
        return embeddings._replace(prompt_tokens=sum([prompt.length for prompt in prompts]))


def _encode_inputs(request: EmbeddingRequest, form: EmbeddingFormat) -> tuple[TokenIds, ...]:
    return tuple(
        form.encode(item, index) if isinstance(item, str) else form.check(item, index)
        for index, item in enumerate(request.inputs)
    )
