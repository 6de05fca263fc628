"""Texts and token arrays as a model for embeddings sees them: ids between its special tokens."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from tokenizers import Tokenizer

from maxgate.errors import InvalidRequest
from maxgate.generation.backend import Embedder, EmbeddingRequest, Embeddings
from maxgate.generation.catalog import ServedModel
from maxgate.generation.errors import InputTooLong
from maxgate.generation.request import TokenIds
from maxgate.prompts.tokenizer import PromptTokenizer

# Text that is much too long is found out from its beginning. What has few tokens for its length is
# looked at as a whole (spaces, words that the model does not know), up to a length at which that
# takes too long and cannot be meant.
_HEAD_CHARACTERS_PER_TOKEN: Final = 32
_MORE_THAN_ENOUGH: Final = 2
_MAX_CHARACTERS_PER_TOKEN: Final = 256


class EmbeddingFormat:
    """A model's tokenizer and the special tokens that it puts around every text.

    `limit` is the model's context in tokens, special ones included. Text cannot spell a special
    token. All methods may be called from any thread.
    """

    def __init__(self, tokenizer: Tokenizer, *, limit: int) -> None:
        before, after = _frame(tokenizer)
        self._before, self._after = before, after
        self._padding = _padding_ids(tokenizer)
        self._vocabulary = tokenizer.get_vocab_size()
        self._tokenizer = PromptTokenizer(tokenizer)
        self._limit = limit

    def encode(self, text: str, index: int) -> TokenIds:
        """What the model sees of a text; `index` is its place, for errors.

        Raises InputTooLong, and InvalidRequest for text that is long without many tokens.
        """
        self._check_length(text, index)
        return self._framed(self._tokenizer.encode(text), index)

    def _check_length(self, text: str, index: int) -> None:
        head = self._limit * _HEAD_CHARACTERS_PER_TOKEN
        if len(text) <= head:
            return
        tokens = self._tokenizer.encode(text[:head]).length
        if tokens > self._limit * _MORE_THAN_ENOUGH:
            raise InputTooLong(limit=self._limit, tokens=tokens, index=index, exact=False)
        longest = self._limit * _MAX_CHARACTERS_PER_TOKEN
        if len(text) > longest:
            raise InvalidRequest(
                f"Invalid value for 'input[{index}]': it has {len(text)} characters; "
                f"this model takes at most {longest}.",
                param=f"input[{index}]",
                code="string_above_max_length",
            )

    def take(self, ids: Sequence[int], index: int) -> TokenIds:
        """What the model sees of a token array, with or without the special tokens around it.

        Raises InvalidRequest for ids that are not the model's: one outside of the vocabulary would
        end MAX, and padding would be passed over in silence. Raises InputTooLong.
        """
        inner = self._without_frame(ids)
        if len(inner) + len(self._before) + len(self._after) <= self._limit:
            for position, token in enumerate(inner):
                if not 0 <= token < self._vocabulary:
                    raise _not_a_token(token, index, position, f"0 to {self._vocabulary - 1}")
                if token in self._padding:
                    raise _not_a_token(token, index, position, "no padding")
        return self._framed(TokenIds.of(inner), index)

    def _without_frame(self, ids: Sequence[int]) -> list[int]:
        before, after, ids = self._before, self._after, list(ids)
        inside = len(ids) - len(after)
        if inside > len(before) and ids[: len(before)] == before and ids[inside:] == after:
            return ids[len(before) : inside]
        return ids

    def _framed(self, ids: TokenIds, index: int) -> TokenIds:
        framed = TokenIds.join([TokenIds.of(self._before), ids, TokenIds.of(self._after)])
        if framed.length > self._limit:
            raise InputTooLong(limit=self._limit, tokens=framed.length, index=index)
        return framed


def _frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoding = tokenizer.encode("a")
    text = [
        place for place, is_special in enumerate(encoding.special_tokens_mask) if not is_special
    ]
    return encoding.ids[: text[0]], encoding.ids[text[-1] + 1 :]


def _padding_ids(tokenizer: Tokenizer) -> frozenset[int]:
    # MAX leaves out what has the padding's id wherever it stands.
    found = [tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>")]
    return frozenset(token for token in found if token is not None)


def _not_a_token(token: int, index: int, position: int, allowed: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid value for 'input[{index}][{position}]': {token} is not a token id of this "
        f"model's text ({allowed}). Token arrays have to come from the model's own tokenizer.",
        param=f"input[{index}][{position}]",
        code="invalid_value",
    )


# This much takes a few milliseconds; more would keep other requests waiting.
_ITEMS_ON_THE_LOOP: Final = 8_000

EmbeddingFormatOf = Callable[[ServedModel], EmbeddingFormat]


class EmbeddingPromptLayer:
    """Asks only for ids of the model's own vocabulary that fit into its context.

    Raises InvalidRequest and InputTooLong before any engine is asked, and what `format_of` raises.
    """

    def __init__(self, inner: Embedder, format_of: EmbeddingFormatOf) -> None:
        self._inner = inner
        self._format_of = format_of

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """The inner vectors, with the tokens counted here."""
        form = self._format_of(request.model)
        if sum(map(len, request.inputs)) <= _ITEMS_ON_THE_LOOP:
            prompts = _prompts(request, form)
        else:
            prompts = await asyncio.to_thread(_prompts, request, form)
        answer = await self._inner.embed(replace(request, prompts=prompts))
        return answer._replace(prompt_tokens=sum(prompt.length for prompt in prompts))


def _prompts(request: EmbeddingRequest, form: EmbeddingFormat) -> tuple[TokenIds, ...]:
    return tuple(
        form.encode(item, index) if isinstance(item, str) else form.take(item, index)
        for index, item in enumerate(request.inputs)
    )
