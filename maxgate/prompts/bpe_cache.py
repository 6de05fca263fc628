"""Text to token ids word by word, with the ids of words remembered.

A byte-level tokenizer first splits a text into words, by a regular expression, and then encodes
each of them for itself. In `tokenizers` the splitting takes nine tenths of the time, as it keeps
track of where in the text every word came from. Here nobody asks for that. What stays is that the
ids are exactly the tokenizer's own: each word is encoded by it once, and only ASCII text is split
here, where all regular expression engines agree on what a letter, a digit and a space is.

No word reaches across a space that has no other white space beside it: it begins a word, whatever
came before. So most text need not be split by the expression either; what stands between two such
spaces is looked up as it is.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from tokenizers import Tokenizer, models, normalizers

from maxgate.generation.request import TokenIds

Encode = Callable[[str], list[int]]

_WORDS_KEPT: Final = 16_384
_LONGEST_WORD_KEPT: Final = 100
_WHITE_SPACE: Final = frozenset(" \t\n\r\v\f")
# While words are looked up no other thread runs, for two milliseconds at most.
_LONGEST_TEXT: Final = 64_000

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
    """Encodes ASCII text by its words; as a whole, where it or one of its words is very long.

    May be used from any thread.
    """

    def __init__(self, split: str, encode: Encode) -> None:
        self._words = re.compile(split, re.ASCII).findall
        self._encode = encode
        self._known = _TwoGenerationCache(self._whole).__getitem__
        self._known_after_space = _TwoGenerationCache(self._after_space).__getitem__

    def encode(self, text: str) -> TokenIds:
        """The ids that the tokenizer itself gives."""
        json = self._json(text)
        return TokenIds(json, json.count(b",") + 1 if json else 0)

    def _json(self, text: str) -> bytes:
        if len(text) > _LONGEST_TEXT or not text.isascii():
            return self._whole(text)
        first, *others = text.split(" ")
        if len(first) > _LONGEST_WORD_KEPT or first[-1:] in _WHITE_SPACE:
            return self._by_words(text)
        try:
            after = _joined(map(self._known_after_space, others))
        except _NotCacheable:
            return self._by_words(text)
        return _joined([self._by_words(first), after])

    def _after_space(self, text: str) -> bytes:
        if not 0 < len(text) <= _LONGEST_WORD_KEPT:
            raise _NotCacheable
        if text[0] in _WHITE_SPACE or text[-1] in _WHITE_SPACE:
            raise _NotCacheable
        return self._by_words(" " + text)

    def _by_words(self, text: str) -> bytes:
        words = self._words(text)
        if len(text) > _LONGEST_WORD_KEPT and len(max(words, key=len)) > _LONGEST_WORD_KEPT:
            return self._whole(text)
        return _joined(map(self._known, words))

    def _whole(self, text: str) -> bytes:
        return TokenIds.of(self._encode(text)).json


def _joined(pieces: Iterable[bytes]) -> bytes:
    # Some tokenizers have no token for some control characters: such a word has no ids at all.
    return b",".join(filter(None, pieces))


class _NotCacheable(Exception):  # the way out of a lookup, not an error
    """Text that has white space at one of its ends, or is very long."""


class _TwoGenerationCache(dict[str, bytes]):
    """What was made of words, for those that came last.

    When it is full, what it holds becomes the older half, which is looked at once more before
    anything is made anew; so what is in use stays.
    """

    def __init__(self, make: Callable[[str], bytes]) -> None:
        super().__init__()
        self._make = make
        self._older: dict[str, bytes] = {}

    def __missing__(self, word: str) -> bytes:
        made = self._older.get(word) or self._make(word)
        if len(self) >= _WORDS_KEPT // 2:
            self._older = dict(self)
            self.clear()
        self[word] = made
        return made


def split_of(tokenizer: Tokenizer) -> str | None:
    """How the tokenizer splits ASCII text into words; None where that is not known for sure."""
    if not isinstance(tokenizer.model, models.BPE) or tokenizer.model.dropout:
        return None
    # Canonical composition leaves ASCII as it is.
    if not isinstance(tokenizer.normalizer, normalizers.NFC | None):
        return None
    if tokenizer.pre_tokenizer is None:
        return None
    steps = json.loads(tokenizer.pre_tokenizer.__getstate__())
    return _split_by(steps.get("pretokenizers", [steps]))


def _split_by(steps: list[dict[str, Any]]) -> str | None:
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
