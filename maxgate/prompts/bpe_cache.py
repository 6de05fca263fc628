"""Encode text word by word, and cache the token ids of words.

A byte-level BPE tokenizer first splits text into words with a regular expression, then encodes each
word by itself. In `tokenizers` the split takes nine tenths of the time, because it tracks the
position of each word, which is not needed here. The ids stay exactly the tokenizer's own: it
encodes each word once, and only ASCII text is split here, for which all regular expression engines
agree on letters, digits and white space.

A space with no other white space beside it always starts a word. So most text is not split by the
expression either: the pieces between two such spaces are looked up as they are.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from tokenizers import Tokenizer, models, normalizers

from maxgate.generation.request import TokenIds

Encode = Callable[[str], list[int]]

_MAX_CACHED_WORDS: Final = 16_384
_MAX_CACHED_CHARACTERS: Final = 100
_WHITE_SPACE: Final = frozenset(" \t\n\r\v\f")
# The lookups hold the GIL: up to two milliseconds for this much text.
_MAX_TEXT_CHARACTERS: Final = 64_000

_CONTRACTION: Final = r"'s|'t|'re|'ve|'m|'ll|'d"
_GPT2_SPLIT: Final = rf"{_CONTRACTION}| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"
# Digits are cut out before the rest is split, so that white space before one ends a text.
_SMOLLM_SPLIT: Final = rf"[0-9]|{_CONTRACTION}| ?[A-Za-z]+| ?[^\sA-Za-z0-9]+|\s+(?![^\s0-9])|\s+"
_LLAMA3_SPLIT: Final = (
    rf"(?i:{_CONTRACTION})|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{{1,3}}| ?[^\sA-Za-z0-9]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_PATTERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class CachedBpeEncoder:
    """Encodes ASCII text by words, and other or very long text as a whole.

    `split` is the regular expression that matches words, `encode` the tokenizer's own encoder. May
    be used from any thread.
    """

    def __init__(self, split: str, encode: Encode) -> None:
        self._find_words = re.compile(split, re.ASCII).findall
        self._encode = encode
        self._encode_word = _TwoGenerationCache(self._encode_whole).__getitem__
        self._encode_after_space = _TwoGenerationCache(self._split_after_space).__getitem__

    def encode(self, text: str) -> TokenIds:
        """Return the ids that the tokenizer itself returns."""
        json = self._encode_json(text)
        return TokenIds(json, json.count(b",") + 1 if json else 0)

    def _encode_json(self, text: str) -> bytes:
        if len(text) > _MAX_TEXT_CHARACTERS or not text.isascii():
            return self._encode_whole(text)
        first, *others = text.split(" ")
        if len(first) > _MAX_CACHED_CHARACTERS or first[-1:] in _WHITE_SPACE:
            return self._encode_words(text)
        try:
            rest = _join(map(self._encode_after_space, others))
        except _NotCacheable:
            return self._encode_words(text)
        return _join([self._encode_words(first), rest])

    def _split_after_space(self, text: str) -> bytes:
        if not 0 < len(text) <= _MAX_CACHED_CHARACTERS:
            raise _NotCacheable
        if text[0] in _WHITE_SPACE or text[-1] in _WHITE_SPACE:
            raise _NotCacheable
        return self._encode_words(" " + text)

    def _encode_words(self, text: str) -> bytes:
        words = self._find_words(text)
        if len(text) > _MAX_CACHED_CHARACTERS and len(max(words, key=len)) > _MAX_CACHED_CHARACTERS:
            return self._encode_whole(text)
        return _join(map(self._encode_word, words))

    def _encode_whole(self, text: str) -> bytes:
        return TokenIds.of(self._encode(text)).json


def _join(pieces: Iterable[bytes]) -> bytes:
    # Some tokenizers have no token for some control characters: such a word has no ids.
    return b",".join(filter(None, pieces))


class _NotCacheable(Exception):  # control flow out of a lookup, not an error
    """The text starts or ends with white space, or is very long."""


class _TwoGenerationCache(dict[str, bytes]):
    """Caches the encoded form of recently used words.

    When the current generation is full, it becomes the old one. A word found in the old generation
    moves back to the current one, so words in use stay.
    """

    def __init__(self, encode: Callable[[str], bytes]) -> None:
        super().__init__()
        self._encode = encode
        self._old: dict[str, bytes] = {}

    def __missing__(self, word: str) -> bytes:
        encoded = self._old.get(word) or self._encode(word)
        if len(self) >= _MAX_CACHED_WORDS // 2:
            self._old = dict(self)
            self.clear()
        self[word] = encoded
        return encoded


def find_split_pattern(tokenizer: Tokenizer) -> str | None:
    """Return the expression by which the tokenizer splits ASCII text; None if it is not certain."""
    if not isinstance(tokenizer.model, models.BPE) or tokenizer.model.dropout:
        return None
    # NFC leaves ASCII unchanged.
    if not isinstance(tokenizer.normalizer, normalizers.NFC | None):
        return None
    if tokenizer.pre_tokenizer is None:
        return None
    steps = json.loads(tokenizer.pre_tokenizer.__getstate__())
    return _match_steps(steps.get("pretokenizers", [steps]))


def _match_steps(steps: list[dict[str, Any]]) -> str | None:
    match steps:
        case [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]:
            return _GPT2_SPLIT
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        ]:
            return _SMOLLM_SPLIT
        case [
            {
                "type": "Split",
                "pattern": {"Regex": pattern},
                "behavior": "Isolated",
                "invert": False,
            },
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ] if pattern == _LLAMA3_PATTERN:
            return _LLAMA3_SPLIT
        case _:
            return None
